"""The step `describe` without a language model: the describer of the embedded world, and templates that join captions."""

import json
from pathlib import Path

import pytest

from data_prep.steps import describe
from data_prep.steps.describe import compose, phrase
from data_prep.world.describer import difference
from data_prep.world.scene import Scene
from tests.data_prep.conftest import Read, Write
from tests.data_prep.test_world_texts import claims


def test_both_directions_are_true_and_worded_separately(world: Path, read: Read) -> None:
    scenes = {
        row["id"]: Scene.from_attributes(row["attributes"]) for row in read(world / "shapes/train/captions.jsonl")
    }
    rows = read(world / "differences.jsonl")
    assert [row["pair_id"] for row in rows] == [row["pair_id"] for row in read(world / "pairs.jsonl")]
    for row in rows:
        first, second = scenes[row["first"]], scenes[row["second"]]
        for attribute, sign in claims(row["text"]):
            assert sign * difference(first, second, attribute) > 0, row
        for attribute, sign in claims(row["reverse_text"]):
            assert sign * difference(second, first, attribute) > 0, row
    assert sum(row["text"] == row["reverse_text"] for row in rows) == 0


def test_a_text_depends_on_its_pair_and_the_seed_alone(world: Path, tmp_path: Path, read: Read, write: Write) -> None:
    pairs = read(world / "pairs.jsonl")
    captions = str(world / "shapes/train/captions.jsonl")
    some = write("some.jsonl", pairs[::-7])
    describe.Describe(pairs=str(some), captions=captions, output=str(tmp_path / "some_differences.jsonl")).run()
    whole = {row["pair_id"]: row for row in read(world / "differences.jsonl")}
    assert all(row == whole[row["pair_id"]] for row in read(tmp_path / "some_differences.jsonl"))
    describe.Describe(pairs=str(some), captions=captions, output=str(tmp_path / "other.jsonl"), seed=1).run()
    assert any(row != whole[row["pair_id"]] for row in read(tmp_path / "other.jsonl"))


def test_equal_scenes_are_counted_not_described(tmp_path: Path, write: Write, read: Read) -> None:
    scene = {"shape": "star", "colour": "red", "size": 0.15, "count": 2, "brightness": 0.5, "position": 0.5}
    captions = write("c.jsonl", [{"id": i, "file": f"{i}.png", "captions": [], "attributes": scene} for i in "ab"])
    pairs = write("p.jsonl", [{"pair_id": "g-0", "group": "g", "first": "a", "second": "b"}])
    describe.Describe(pairs=str(pairs), captions=str(captions), output=str(tmp_path / "d.jsonl")).run()
    assert read(tmp_path / "d.jsonl") == []
    assert '"no_difference": 1' in (tmp_path / "d.jsonl.manifest.json").read_text()


@pytest.mark.parametrize(
    ("second", "attributes", "backend", "message"),
    [
        ("c", {}, "scene", r"p.jsonl, line 1: `second` is 'c', which .*c.jsonl does not have"),
        ("b", {}, "scene", r"image 'a' has no scene attributes .*pcclip-data shapes"),
        ("b", {}, "oracle", r"describe.backend"),
    ],
)
def test_bad_input(
    tmp_path: Path, write: Write, second: str, attributes: dict[str, float], backend: str, message: str
) -> None:
    captions = write("c.jsonl", [{"id": i, "file": i, "captions": [], "attributes": attributes} for i in "ab"])
    pairs = write("p.jsonl", [{"pair_id": "g-0", "group": "g", "first": "a", "second": second}])
    with pytest.raises(ValueError, match=message):
        describe.Describe(
            pairs=str(pairs), captions=str(captions), output=str(tmp_path / "d.jsonl"), backend=backend
        ).run()
    assert not (tmp_path / "d.jsonl").exists()


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


def test_composed_texts_replace_none_of_a_language_model(tmp_path: Path, write: Write, read: Read) -> None:
    captions = write("c.jsonl", [{"id": i, "file": i, "captions": [f"A {{{i}}} cat."]} for i in "ab"])
    pairs = write("p.jsonl", [{"pair_id": "g-0", "group": "g", "first": "a", "second": "b"}])
    output = tmp_path / "d.jsonl"
    options = describe.Describe(pairs=str(pairs), captions=str(captions), output=str(output), backend="compose")
    options.run()
    (row,) = read(output)
    assert row["text"].index("a {a} cat") < row["text"].index("a {b} cat")
    assert json.loads((tmp_path / "d.jsonl.manifest.json").read_text())["options"]["backend"] == "compose"
    write("c.jsonl", [{"id": i, "file": i, "captions": []} for i in "ab"])
    with pytest.raises(ValueError, match="image 'a' has no captions"):
        options.run()
    write("d.jsonl", [{"pair_id": "g-0", "text": "bought dearly", "key": "s-1"}])
    (tmp_path / "d.jsonl.manifest.json").unlink()
    with pytest.raises(ValueError, match=r"d.jsonl: .*`compose`.*`output`"):
        options.run()
    assert read(output)[0]["text"] == "bought dearly"
