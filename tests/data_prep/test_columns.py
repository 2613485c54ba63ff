"""Difference texts from the columns of a table: their truth in both directions, thresholds, words, and bad input."""

import json
import re
import shlex
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from data_prep.cli import main
from data_prep.columns.column_texts import TableTexts
from data_prep.rules.direction import claims
from data_prep.rules.reading import Reader
from data_prep.steps.describe import Describe
from pcclip.data.datamodule import PairDataModule
from pcclip.data.format import DatasetInfo
from pcclip.roles import swap_roles
from tests.data_prep.conftest import Read, Write

ROOT = Path(__file__).parents[2]
OBJECTS = ROOT.parent / "shared/data/real_clip/objects.jsonl"
SIZE = {"kind": "number", "least": 1, "slight": 2, "strong": 8, "more": ["larger"], "less": ["smaller"]}
GLOWS = {"kind": "flag", "positive": ["glows"], "negative": ["sleeps"]}
KIND = {"kind": "category", "predicates": ["is a(n) {}"], "values": {"app": "apple"}}
LARGE = {"id": "large", "attributes": {"size": 10, "glows": True, "kind": "app"}}
SMALL = {"id": "small", "size": "1", "glows": "no", "kind": "kettle"}  # as a table in text form has it


def table(folder: Path, columns: dict[str, Any], *rows: dict[str, Any], **settings: Any) -> TableTexts:
    """The texts of a table."""
    (folder / "words.yaml").write_text(yaml.safe_dump({"columns": columns, **settings}))
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TableTexts(folder / "words.yaml", folder / "captions.jsonl")


def both(
    texts: TableTexts, first: dict[str, Any], second: dict[str, Any], count: int = 400
) -> tuple[set[str], set[str]]:
    """Different texts of a pair, and of its reverse."""
    found = [texts(0, str(number), first, second) for number in range(count)]
    return {pair[0] for pair in found if pair}, {pair[1] for pair in found if pair}


@pytest.mark.parametrize(("share", "low", "high"), [(0, 0, 0), (0.2, 0.1, 0.3), (1, 1, 1)])
def test_images_are_mentioned_in_either_order(tmp_path: Path, share: float, low: float, high: float) -> None:
    texts = table(tmp_path, {"glows": GLOWS}, LARGE, SMALL, second_before_first=share)
    written = [text for seed in range(200) for text in texts(seed, "pair", LARGE, SMALL) or ()]
    # A frame may name Y before X, so only frames that name both once, in order, tell the order that was drawn.
    tell = [text for text in written if text.startswith("The ") and ", unlike" not in text and "contrast" not in text]
    assert low <= sum(text.index("second") < text.index("first") for text in tell) / len(tell) <= high


@pytest.mark.parametrize("frequencies", [[1], [0, 1], [1, 1, 1]])
def test_both_directions_are_true(tmp_path: Path, frequencies: list[float]) -> None:
    """As the screening rules read them, which know nothing of frames."""
    columns = {"size": SIZE, "glows": GLOWS, "kind": KIND}
    texts = table(tmp_path, columns, LARGE, SMALL, columns_per_text=frequencies, nouns=["object"])
    of_large, of_small = {"glow", "appl"}, {"sleep", "kettl"}
    reader, understood, written = Reader({}, {}), 0, 0
    for large, found in zip(("first", "second"), both(texts, LARGE, SMALL, 1000), strict=True):
        for raw in found:
            text = reader.read(raw)
            assert {"first", "second"} <= text.signs
            said = {"first": text.said[0], "second": text.said[1]}
            small = "second" if large == "first" else "first"
            assert all(claim.side == large for claim in claims(text)), raw
            assert not said[large] & of_small, raw
            assert not said[small] & of_large, raw
            understood += bool(claims(text) or said[large] & of_large or said[small] & of_small)
            written += 1
    assert understood > 0.9 * written > 300


def test_words_frames_degrees_and_order_of_mention_vary(tmp_path: Path) -> None:
    size = {**SIZE, "more": ["larger", "bigger"], "adjectives": ["large"]}
    size["levels"] = [{"at_least": 0, "words": ["tiny"]}, {"at_least": 5, "words": ["huge"]}]
    texts = table(tmp_path, {"size": size}, LARGE, SMALL)
    found, reverse = both(texts, LARGE, SMALL, 1000)
    assert len(found) > 300
    assert len({text.split()[0] for text in found}) >= 8
    for words in ("much larger", "bigger", "smaller", "not as large", "not nearly as large", "tiny", "huge"):
        assert any(words in text for text in found), words
    firsts = sum(text.index("first") < text.index("second") for text in found)
    assert 0.4 < firsts / len(found) < 0.6
    swapped = set(map(swap_roles, found))
    assert len(swapped & reverse) > 50  # a text of a pair, with roles exchanged, is one of its reverse
    assert not swapped & found
    assert texts(0, "p", LARGE, SMALL) == texts(0, "p", LARGE, SMALL) != texts(1, "p", LARGE, SMALL)


@pytest.mark.parametrize(
    ("compare", "a", "b", "degree"),
    [
        ("difference", 1, 1.9, None),
        ("difference", 1, 3, "slightly"),
        ("difference", 1, 5, ""),
        ("difference", -1, 7, "far"),
        ("ratio", 2, 3.9, None),
        ("ratio", 2, 4, "slightly"),
        ("ratio", 20, 80, ""),
        ("ratio", 1, 8, "far"),
        ("ratio", 0, 0, None),
        ("ratio", 0, 0.1, "far"),
    ],
)
def test_thresholds_decide_what_is_said(tmp_path: Path, compare: str, a: float, b: float, degree: str | None) -> None:
    column = {**SIZE, "compare": compare, "least": 2, "slight": 3, "strong": 8}
    rows = [{"id": "a", "size": a}, {"id": "b", "size": b}]
    found = both(table(tmp_path, {"size": column}, *rows), rows[0], rows[1], 200)
    if degree is None:
        assert found == (set(), set())
        return
    graded = {word for texts in found for text in texts for word in ("slightly", "far") if f" {word} " in text}
    assert graded == ({degree} if degree else set())


def test_weights_and_missing_values_decide_on_columns(tmp_path: Path) -> None:
    texts = table(tmp_path, {"size": {**SIZE, "weight": 3}, "glows": GLOWS}, LARGE, SMALL, columns_per_text=[1])
    said = Counter("larger" in text or "smaller" in text for text in map(str, both(texts, LARGE, SMALL, 1000)[0]))
    assert said[True] > 2 * said[False] > 0
    for cell in (None, ""):
        unknown = {**SMALL, "size": cell}
        assert all("glow" in text or "sleep" in text for text in both(texts, LARGE, unknown)[0])
    assert texts(0, "p", LARGE, {"id": "unknown"}) is None


@pytest.mark.parametrize(
    ("columns", "rows", "names"),
    [
        ({}, [], "words.yaml: columns"),
        ({"size": {"kind": "colour"}}, [], r"words.yaml: columns.size.*colour"),
        ({"size": {**SIZE, "mroe": []}}, [], r"words.yaml: columns.size.number.mroe"),
        ({"size": {**SIZE, "more": []}}, [], r"columns.size.number.more"),
        ({"size": {**SIZE, "more": ["first-rate"]}}, [], r"columns.size.number.more.0.*first-rate"),
        ({"size": {**SIZE, "compare": "ratio"}}, [], r"columns.size.*`least`"),
        ({"size": {**SIZE, "slight": 9}}, [], r"columns.size.*`slight`"),
        ({"size": {**SIZE, "levels": [{"at_least": 1, "words": ["x"]}] * 2}}, [], r"columns.size.*`levels`"),
        ({"glows": {**GLOWS, "negative": [" "]}}, [], r"columns.glows.flag.negative.0"),
        ({"kind": {**KIND, "predicates": ["is"]}}, [], r"columns.kind.category.predicates.0"),
        ({"size": SIZE}, [LARGE, {"id": "b", "size": "1,5"}], r"captions.jsonl, line 2: .*`size`.*1,5"),
        ({"size": SIZE}, [{"id": "b", "size": float("nan")}], r"captions.jsonl, line 1: .*`size`"),
        ({"size": {**SIZE, "compare": "ratio", "least": 2}}, [{"id": "b", "size": -1}], r"line 1: .*`size`.*-1"),
        ({"glows": GLOWS}, [{"id": "b", "glows": 2}], r"captions.jsonl, line 1: .*`glows`.*2"),
        ({"kind": KIND}, [{"id": "b", "kind": "first class"}], r"captions.jsonl, line 1: .*`kind`.*first class"),
        ({"size": SIZE, "sise": SIZE}, [LARGE], r"captions.jsonl: .*`sise`.*words.yaml"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, columns: dict[str, Any], rows: list[dict[str, Any]], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        table(tmp_path, columns, *rows)
    with pytest.raises(ValueError, match=r"words.yaml: .*`columns_per_text`"):
        table(tmp_path, {"size": SIZE}, LARGE, columns_per_text=[0, 0])


def test_categories_with_the_same_words_do_not_differ(tmp_path: Path) -> None:
    rows = [{"id": name, "kind": name} for name in ("app", "apple", "kettle")]
    texts = table(tmp_path, {"kind": KIND}, *rows)
    assert texts(0, "p", rows[0], rows[1]) is None
    assert "an apple" in str(texts(0, "p", rows[0], rows[2]))


def test_attributes_come_before_the_size_of_the_picture(tmp_path: Path) -> None:
    rows = [
        {"id": str(own), "width": pixels, "attributes": {"width": own}} for own, pixels in ((1, 8), (5, 8), (5, 64))
    ]
    texts = table(tmp_path, {"width": SIZE}, *rows)
    assert texts(0, "p", rows[0], rows[1]) is not None
    assert texts(0, "p", rows[1], rows[2]) is None


def test_step_writes_both_directions_and_counts_silent_pairs(tmp_path: Path, write: Write, read: Read) -> None:
    rows = [{**row, "file": "x.jpg", "captions": ["a thing"]} for row in (LARGE, SMALL, {**SMALL, "id": "same"})]
    pairs = [("large", "small"), ("small", "same")]
    words = tmp_path / "words.yaml"
    words.write_text(yaml.safe_dump({"columns": {"size": SIZE}}))
    step = Describe(
        captions=str(write("c.jsonl", rows)),
        pairs=str(write("p.jsonl", [{"pair_id": a + b, "group": "g", "first": a, "second": b} for a, b in pairs])),
        output=str(tmp_path / "d.jsonl"),
        backend="attributes",
        words=str(words),
    )
    step.run()
    (row,) = read(tmp_path / "d.jsonl")
    assert row.keys() == {"pair_id", "group", "first", "second", "text", "reverse_text"}
    assert row["text"] != row["reverse_text"]
    manifest = json.loads((tmp_path / "d.jsonl.manifest.json").read_text())
    assert manifest["counts"] == {"pairs": 2, "described": 1, "no_difference": 1}
    words.write_text(yaml.safe_dump({"columns": {"size": {**SIZE, "more": ["vaster"], "less": ["tinier"]}}}))
    step.run()
    assert any(word in read(tmp_path / "d.jsonl")[0]["text"] for word in ("vaster", "tinier"))
    for backend, given in (("attributes", None), ("compose", str(words)), ("openai", str(words))):
        wrong = replace(step, backend=backend, words=given, model="m")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"describe\.words"):
            wrong.run()


def test_catalogue_of_the_guide_becomes_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Read) -> None:
    guide = (ROOT / "docs/guides/data.md").read_text(encoding="utf-8")
    section = guide.partition("## From a table")[2].partition("\n## ")[0]
    (csv,), (words, mix), (commands,) = (
        re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        for language in ("csv", "yaml", "sh")
    )
    monkeypatch.chdir(tmp_path)
    Path("catalogue.csv").write_text(csv)
    Path("words.yaml").write_text(words)
    Path("images").mkdir()
    for number, line in enumerate(csv.splitlines()[1:]):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(Path("images") / line.split(",")[0])
    for command in commands.splitlines():
        assert main(shlex.split(command)[1:]) == 0
    rows = read(Path("captions.jsonl"))
    assert rows[2]["attributes"] == {"price": "120", "rating": "", "wireless": "no", "material": "oak"}
    assert len(read(Path("differences.jsonl"))) == 6
    assert DatasetInfo.read("shards").pairs == 12
    PairDataModule(**yaml.safe_load(mix)["data"])


@pytest.mark.skipif(not OBJECTS.is_file(), reason="needs the embeddings of real CLIP")
def test_words_of_real_clip_fit_its_objects() -> None:
    texts = TableTexts(ROOT / "conf/real_clip/attributes.yaml", OBJECTS)
    rows = [json.loads(line) for line in OBJECTS.read_text().splitlines()]
    found = [texts(0, str(place), a, b) for place, (a, b) in enumerate(pairwise(rows))]
    written = [text for pair in found if pair for text in pair]
    assert len(written) > 1.9 * len(rows)
    assert sum(" not " in text or "cannot" in text for text in written) > 0.2 * len(written)
