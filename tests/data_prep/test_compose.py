"""The baseline describer joins captions by templates, and says in the manifest that it did."""

import json
from pathlib import Path

import pytest

from data_prep.steps import describe
from data_prep.steps.describe import compose, phrase
from tests.data_prep.conftest import Read, Write


def test_both_images_are_mentioned_in_order() -> None:
    cat, dogs = {"id": "a", "captions": ["A cat sleeps."]}, {"id": "b", "captions": ["Two dogs run."]}
    texts = [compose(0, f"p{i}", cat, dogs) for i in range(60)]
    for text, reverse in texts:
        assert text.lower().index("a cat sleeps") < text.lower().index("two dogs run")
        assert reverse.lower().index("two dogs run") < reverse.lower().index("a cat sleeps")
        assert text.lower().index("first") < text.lower().index("second")
        assert "first" in reverse.lower()
        assert text[0].isupper()
    assert len({text for text, _ in texts}) == 8
    assert compose(0, "p1", cat, dogs) == texts[1]
    assert texts != [compose(1, f"p{i}", cat, dogs) for i in range(60)]


@pytest.mark.parametrize(
    ("caption", "found"),
    [("A  cat sleeps .", "a cat sleeps"), ("London at night", "London at night"), ("A {cat}", "a {cat}"), (".", "")],
)
def test_phrase(caption: str, found: str) -> None:
    assert phrase(caption) == found


def test_step(tmp_path: Path, write: Write, read: Read) -> None:
    captions = write("c.jsonl", [{"id": i, "file": i, "captions": [f"A {{{i}}} cat."]} for i in "ab"])
    pairs = write("p.jsonl", [{"pair_id": "g-0", "group": "g", "first": "a", "second": "b"}])
    options = describe.Describe(
        pairs=str(pairs), captions=str(captions), output=str(tmp_path / "d.jsonl"), backend="compose"
    )
    options.run()
    (row,) = read(tmp_path / "d.jsonl")
    assert row["text"].index("a {a} cat") < row["text"].index("a {b} cat")
    assert json.loads((tmp_path / "d.jsonl.manifest.json").read_text())["options"]["backend"] == "compose"
    write("c.jsonl", [{"id": i, "file": i, "captions": []} for i in "ab"])
    with pytest.raises(ValueError, match="image 'a' has no captions"):
        options.run()


def test_a_language_models_texts_are_not_replaced(tmp_path: Path, write: Write, read: Read) -> None:
    captions = write("c.jsonl", [{"id": i, "file": i, "captions": ["A cat."]} for i in "ab"])
    pairs = write("p.jsonl", [{"pair_id": "g-0", "group": "g", "first": "a", "second": "b"}])
    output = write("d.jsonl", [{"pair_id": "g-0", "text": "bought dearly", "key": "s-1"}])
    with pytest.raises(ValueError, match=r"d.jsonl: .*`compose`.*`output`"):
        describe.Describe(pairs=str(pairs), captions=str(captions), output=str(output), backend="compose").run()
    assert read(output)[0]["text"] == "bought dearly"
