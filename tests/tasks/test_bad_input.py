"""What is wrong with a task's files is said before anything is encoded, or left out, counted and reported."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcclip.tasks import (
    Analogies,
    Arithmetic,
    AttributeRanking,
    ComparativePrompting,
    Compositionality,
    LinearProbe,
    Task,
    ZeroShot,
    evaluate,
)
from tests.helpers.pictures import png, write_tar
from tests.helpers.world import TEMPLATES, TinyModel

CLASSES: dict[str, Any] = {"name": "set", "images": "classes"}


def shot(**changes: Any) -> ZeroShot:
    return ZeroShot(**CLASSES | {"templates": TEMPLATES} | changes)


def ranking(**changes: Any) -> AttributeRanking:
    return AttributeRanking(
        **{"name": "set", "images": "images", "table": "table.csv", "texts": "texts.yaml"} | changes
    )


def comparative(**changes: Any) -> ComparativePrompting:
    return ComparativePrompting(**CLASSES | {"templates": TEMPLATES, "texts": "compared.jsonl"} | changes)


def probe(**changes: Any) -> LinearProbe:
    return LinearProbe(**CLASSES | {"test": "classes"} | changes)


def analogies(**changes: Any) -> Analogies:
    return Analogies(
        **CLASSES | {"templates": TEMPLATES, "table": "grid.jsonl", "columns": ("row", "column")} | changes
    )


def write(file: str, *lines: str) -> Callable[[], None]:
    return lambda: Path(file).write_text("".join(f"{line}\n" for line in lines)) and None


def table(*rows: str) -> Callable[[], None]:
    return write("table.csv", "image,brightness,size", *rows)


def write_tars(cut: bool = False) -> None:
    """`tars/0.tar` with three red pictures, and classnames.txt."""
    members: dict[str, bytes] = {}
    for number in range(3):
        members |= {f"{number}.cls": b"0", f"{number}.png": png((255 - number, 0, number), (64, 64))}
    file = write_tar(Path("tars/0.tar"), members)
    Path("tars/classnames.txt").write_text("red\nblue\n")
    if cut:
        file.write_bytes(file.read_bytes()[:1700])  # within the first picture


# The task, what is changed in the world, and what the message must name
REFUSED: dict[str, tuple[Callable[[], Task], Callable[[], None] | None, str]] = {
    "missing dataset": (lambda: shot(images="nowhere"), None, "^nowhere: "),
    "missing descriptions": (
        lambda: shot(templates=["a {}. {description}"], descriptions="no.csv"), None, "^no.csv: .*pcclip-data class_texts"
    ),
    "template without descriptions": (lambda: shot(templates=["{} {description}"]), None, "zero_shot set: `descriptions`"),
    "descriptions of some classes": (
        lambda: shot(templates=["{} {description}"], descriptions="said.csv"),
        write("said.csv", "name,description", "red,warm", "green,", "blue,cold"),
        r"said.csv: .* 1 classes .*\['green'\]",
    ),
    "no templates": (lambda: shot(templates=[]), None, "zero_shot set: no templates"),
    "template without a place": (lambda: shot(templates=["a photo"]), None, r"\['a photo'\]"),
    "half a tar": (lambda: shot(images="tars"), lambda: write_tars(cut=True), "^tars/0.tar: "),
    "one class": (lambda: shot(classes=["red"]), None, "two classes"),
    "class named twice": (lambda: shot(classes=["red", "blue", "red"]), None, "each named once"),
    "unknown class": (lambda: shot(classes=["red", "puce"]), None, r"unknown classes \['puce'\]"),
    "filter without a table": (lambda: shot(where={"split": "a"}), None, "zero_shot set: `where`"),
    "no table": (lambda: ranking(table=None), None, "attribute_ranking set: `table`"),
    "no texts": (lambda: ranking(attributes=["size"]), None, r"texts.yaml: .*\['size'\]"),
    "images by class": (lambda: ranking(level="class"), None, r"table.csv: 23 rows .*'000.png'"),
    "one value only": (ranking, table("001.png,0.5,1", "002.png,0.5,2"), r"table.csv: .*\['brightness'\]"),
    "all unknown": (ranking, table("001.png,nan,1", "002.png,,2"), r"table.csv: .*\['brightness'\]"),
    "row of no image": (ranking, table("999.png,1,1", "001.png,2,2"), r"table.csv: 1 rows .*999\.png"),
    "pairs of one": (lambda: ranking(pair_images=1), None, "attribute_ranking set: pair_images"),
    "draws of one": (lambda: ranking(images_per_draw=1), None, "attribute_ranking set: .*images_per_draw"),
    "no example": (lambda: ranking(examples=[0]), None, "attribute_ranking set: .*examples"),
    "examples twice": (lambda: ranking(examples=[5, 5]), None, "attribute_ranking set: .*examples"),
    "no draw": (lambda: ranking(draws=0), None, "attribute_ranking set: .*draws"),
    "too few to probe": (lambda: probe(shots=[30]), None, "linear_probe set: .* 34 training images"),
    "nothing to probe": (lambda: probe(full=False), None, "linear_probe set: nothing to fit"),
    "classes to probe": (lambda: probe(images="tars"), write_tars, "classes"),
    "alpha of one": (lambda: comparative(alphas=[0.5, 1]), None, "comparative_prompting set: alphas"),
    "no lambda": (lambda: Arithmetic(**CLASSES, edits="edits.jsonl", lambdas=[]), None, "arithmetic set: lambdas"),
    "lambda given twice": (lambda: Arithmetic(**CLASSES, edits="edits.jsonl", lambdas=[1, 1]), None, "lambdas"),
    "other comparative texts": (lambda: comparative(classes=["red", "blue"]), None, "compared.jsonl: .*2 classes"),
    "names of texts": (lambda: comparative(texts_column="id"), None, "`texts_column`"),
    "texts of unknown classes": (
        comparative,
        write("compared.jsonl", '{"first": "red", "second": "puce", "text": "x"}'),
        r"compared.jsonl: unknown classes \['puce'\]",
    ),
    "pairs without texts": (
        lambda: comparative(pairs="pairs.jsonl"),
        write("pairs.jsonl", '{"first": "red", "second": "blue"}'),
        r"compared.jsonl: .* 1 pairs of pairs.jsonl: \['blue', 'red'\]",
    ),
    "pairs of unknown classes": (
        lambda: comparative(pairs="pairs.jsonl"),
        write("pairs.jsonl", '{"first": "red", "second": "puce"}'),
        r"pairs.jsonl: unknown classes \['puce'\]",
    ),
    "template of differences": (
        lambda: Arithmetic(**CLASSES, edits="edits.jsonl", difference_template="{target}"), None, "{source}"
    ),
    "no images": (lambda: Compositionality(name="set", images="nowhere", captions="c.json"), None, "^nowhere: .*COCO"),
    "captions of no image": (
        lambda: Compositionality(name="set", images="images", captions="c.json"),
        write("c.json", json.dumps({"0": {"filename": "x", "caption": "a", "negative_caption": "b"}})),
        r"^images: 1 of 1 .*\['x'\]",
    ),
    "several answers": (lambda: analogies(columns=("row", "row")), None, "grid.jsonl: several classes"),
    "no analogy": (lambda: analogies(where={"row": "1"}), None, "grid.jsonl: no four classes"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _copy(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(world, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    write(
        "two.yaml",
        "brightness: [{text: the first is brighter, reverse: the first is darker}]",
        "size: [{text: the first is a square, reverse: the second is a square}]",
    )()
    write("compared.jsonl", '{"first": "red", "second": "green", "text": "redder"}')()
    grid = [("red", "1", "a"), ("green", "1", "b"), ("blue", "2", "a")]
    write("grid.jsonl", *(json.dumps({"name": name, "row": row, "column": column}) for name, row, column in grid))()


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_encoded(case: str) -> None:
    make, spoil, message = REFUSED[case]
    if spoil is not None:
        spoil()
    model = TinyModel()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        evaluate(model, [make()])
    assert model.encoded == model.encoded_texts == 0


def warned(task: Task) -> list[str]:
    """The warnings of reading a task that name it or a table."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        task.prepare()
    messages = [str(warning.message) for warning in found]
    return [message for message in messages if task.title in message or ".csv: " in message]


def test_too_few_rows_for_a_ceiling_are_reported() -> None:
    write("classes.csv", "name,brightness", "red,1", "green,2", "blue,3")()
    task = ranking(images="classes", table="classes.csv", key="name", level="class_images", ceiling=True)
    (message,) = warned(task)  # with enough images
    assert message.startswith("classes.csv: ")
    assert message.endswith("brightness")
    assert not [row.metric for row in evaluate(TinyModel(), [task], resamples=5) if "ceiling" in row.metric]


def test_an_attribute_of_one_value_among_others_is_left_out_and_reported() -> None:
    table("001.png,0.1,1", "002.png,nan,1", "003.png,0.7,1")()
    task = ranking(texts="two.yaml")
    (message,) = (message for message in warned(task) if "1 of 2 attributes" in message)
    assert message.endswith("size")
    counts = {(row.subset, row.metric): row.n for row in evaluate(TinyModel(), [task], resamples=5)}
    assert counts["set/brightness", "spearman"] == 2  # one is unknown
    assert not [subset for subset, _ in counts if "size" in subset]


def test_images_without_a_row_or_a_value_are_counted() -> None:
    table("001.png,0.1,1", "002.png,nan,", "003.png,0.7,", "004.png,0.2,3")()
    rows, values = warned(ranking(texts="two.yaml"))
    assert "19 of 23 images" in rows
    assert "000.png, 005.png" in rows
    assert '1 of "brightness", 2 of "size"' in values
    assert "3 unknown values" in values
    # what `where` filters has a row, and the others have a value
    rows = [f"{number:03d}.png,0.{number:02d},{number % 2}" for number in range(23)]
    table(*rows)()
    assert warned(ranking(where={"size": "1"})) == []
    table(*rows[:-1])()
    (message,) = warned(ranking(where={"size": "1"}))
    assert "1 of 23 images" in message


def test_unknown_values_of_many_attributes_are_summed_up() -> None:
    names = [f"a{number}" for number in range(8)]
    write("many.yaml", *(f"{name}: [{{text: more {name}, reverse: less {name}}}]" for name in names))()
    cells = {"red": "1", "green": "2", "blue": ""}
    write("classes.csv", ",".join(["name", *names]), *(",".join([name, *[cell] * 8]) for name, cell in cells.items()))()
    for level, count in (("class", 1), ("class_images", 5)):
        (message,) = warned(ranking(level=level, images="classes", table="classes.csv", key="name", texts="many.yaml"))
        assert f'{count} of "a4" and 3 more' in message
        assert f"{8 * count} unknown values" in message


def test_classes_without_images_are_reported() -> None:
    write_tars()
    (message,) = warned(shot(images="tars"))
    assert "1 of 2 classes" in message
    assert {row.metric: row.n for row in evaluate(TinyModel(), [shot(images="tars")], resamples=5)}["top1"] == 3

    write("classes.csv", "name,brightness", "red,1", "blue,2")()
    for level in ("class", "class_images"):
        means = ranking(images="tars", table="classes.csv", key="name", level=level)
        with pytest.warns(UserWarning, match="1 classes .*blue"), pytest.raises(ValueError, match="brightness"):
            means.prepare()
