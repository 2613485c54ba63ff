"""What is wrong with a dataset is said before anything is encoded, or left out, counted and reported."""

from __future__ import annotations

import io
import shutil
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from PIL import Image
from torch import Tensor

from pcclip.callbacks import AttributeRanking, AttributeSet, LinearProbe, LinearProbeSet, ZeroShot, ZeroShotSet
from pcclip.callbacks.evaluation import EvaluationCallback

TEMPLATES = ["a photo of a {} square"]


def shot(**changes: Any) -> ZeroShot:
    return ZeroShot({"set": ZeroShotSet(**{"images": "classes", "templates": TEMPLATES, **changes})}, resamples=5)


def ranking(**changes: Any) -> AttributeRanking:
    settings = {"images": "images", "table": "table.csv", "texts": "texts.yaml", **changes}
    return AttributeRanking({"set": AttributeSet(**settings)}, resamples=5)


def table(rows: str) -> Callable[[], None]:
    return lambda: Path("table.csv").write_text("image,brightness,size\n" + rows) and None


def write_tars(classes: str = "red\nblue\n", cut: bool = False) -> None:
    """`tars/0.tar` with three red pictures, and classnames.txt."""
    Path("tars").mkdir()
    Path("tars/classnames.txt").write_text(classes)
    with tarfile.open("tars/0.tar", "w") as archive:
        for number in range(3):
            stream = io.BytesIO()
            Image.new("RGB", (64, 64), (255 - number, 0, number)).save(stream, "BMP")
            picture = Image.open(stream)
            stream = io.BytesIO()
            picture.save(stream, "PNG", compress_level=0)
            for ending, content in (("cls", b"0"), ("png", stream.getvalue())):
                info = tarfile.TarInfo(f"{number}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    if cut:
        content = Path("tars/0.tar").read_bytes()
        Path("tars/0.tar").write_bytes(content[: len(content) // 2])


REFUSED: dict[str, tuple[Callable[[], EvaluationCallback], Callable[[], None] | None, str]] = {
    "missing dataset": (lambda: shot(images="nowhere"), None, "nowhere: evaluation images not found"),
    "missing descriptions": (
        lambda: shot(templates=["a {}. {description}"], descriptions="nowhere.csv"),
        None,
        r"nowhere.csv: descriptions of classes not found; `pcclip-data class_texts --classes` writes them",
    ),
    "template without descriptions": (lambda: shot(templates=["{} {description}"]), None, "go together; give both"),
    "descriptions of some classes": (
        lambda: shot(templates=["{} {description}"], descriptions="said.csv"),
        lambda: Path("said.csv").write_text("name,description\nred,warm\ngreen,\nblue,cold\n") and None,
        r"no description of 1 classes of zero-shot set set: \['green'\]",
    ),
    "missing templates": (lambda: shot(templates="nowhere.txt"), None, r"nowhere\.txt: templates"),
    "no templates": (lambda: shot(templates=[]), None, "no templates; give at least one"),
    "half a tar": (lambda: shot(images="tars"), lambda: write_tars(cut=True), "tars/0.tar: not a readable tar"),
    "class named twice in tars": (
        lambda: shot(images="tars"),
        lambda: write_tars("red\nred\n"),
        "same class name twice",
    ),
    "empty class list": (lambda: shot(classes=[]), None, "needs at least two classes"),
    "empty class file": (
        lambda: shot(classes="none.txt"),
        lambda: Path("none.txt").write_text("\n") and None,
        "none.txt: zero-shot set set needs at least two classes",
    ),
    "class named twice": (lambda: shot(classes=["red", "blue", "red"]), None, "two classes, each named once"),
    "empty class folder": (
        lambda: shot(classes=["red", "grey"]),
        lambda: Path("classes/grey").mkdir(),
        r"unknown classes \['grey'\]",
    ),
    "no table": (lambda: ranking(table=None), None, "`table` is missing; these images bring no attributes"),
    "one value only": (
        ranking,
        table("001.png,0.5,1\n002.png,0.5,2\n"),
        r"\['brightness'\] of set set have fewer than two distinct values",
    ),
    "all unknown": (ranking, table("001.png,nan,1\n002.png,,2\n"), "fewer than two distinct values"),
    "infinite": (ranking, table("001.png,inf,1\n002.png,1,2\n"), r'row "001.png", column "brightness" holds \'inf\''),
    "no number": (ranking, table("001.png,big,1\n"), "expected a number, or nothing if unknown"),
    "row of no image": (ranking, table("999.png,1,1\n001.png,2,2\n"), "1 rows name images that are not in images"),
    "too few classes for a ceiling": (  # with enough images
        lambda: ranking(images="classes", table="classes.csv", key="name", level="class_images", ceiling=True),
        lambda: Path("classes.csv").write_text("name,brightness\nred,1\ngreen,2\nblue,3\n") and None,
        "classes.csv: .*brightness.* 3 rows",
    ),
    "pairs of one": (
        lambda: ranking(pair_images=1),
        None,
        "attribute set set: pair_images=1: give at least two images",
    ),
    "draws of one": (
        lambda: ranking(images_per_draw=1),
        None,
        "attribute set set: images_per_draw=1 and draws=5: give at",
    ),
    "too few to probe": (
        lambda: LinearProbe({"set": LinearProbeSet("classes", "classes", shots=[30])}),
        None,
        "fewer than 34 training images",
    ),
}


@pytest.fixture(autouse=True)
def _copy(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(world, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    Path("two.yaml").write_text(
        "brightness: [{text: the first is brighter, reverse: the first is darker}]\n"
        "size: [{text: the first is a square, reverse: the second is a square}]\n"
    )


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_encoded(
    case: str, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    make, spoil, message = REFUSED[case]
    if spoil is not None:
        spoil()
    module = make_module()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make_trainer([make()]).test(module, verbose=False)
    assert module.model.encoded == 0


def counts(callback: EvaluationCallback) -> dict[tuple[str, str], int]:
    return {(row.subset, row.metric): row.n for row in callback.rows}


def test_an_attribute_of_one_value_among_others_is_left_out_and_reported(
    make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    table("001.png,0.1,1\n002.png,nan,1\n003.png,0.7,1\n")()
    callback = ranking(texts="two.yaml")
    with pytest.warns(
        UserWarning, match=r"1 of 2 attributes of set set have fewer than two distinct .* left out: size"
    ):
        make_trainer([callback]).test(make_module(), verbose=False)
    assert counts(callback)["set/brightness", "spearman"] == 2  # one is unknown
    assert not [subset for subset, _ in counts(callback) if "size" in subset]


def told_of_set(callback: EvaluationCallback) -> list[str]:
    """The warnings of reading it that speak of the set's table."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        callback.prepare()
    return [str(warning.message) for warning in told if ": set set: " in str(warning.message)]


def test_pictures_without_a_row_or_a_value_are_reported() -> None:
    table("001.png,0.1,1\n002.png,nan,\n003.png,0.7,\n004.png,0.2,3\n")()
    (message,) = told_of_set(ranking(texts="two.yaml"))
    assert message == (
        "table.csv: set set: 19 of 23 pictures have no row and are left out (000.png, 005.png, 006.png, 007.png, 008.png); "
        '1 of 4 pictures have no value of "brightness" and no part in it; '
        '2 of 4 pictures have no value of "size" and no part in it'
    )
    # what `where` filters has a row, and the others have a value
    rows = [f"{number:03d}.png,0.{number:02d},{number % 2}\n" for number in range(23)]
    table("".join(rows))()
    assert told_of_set(ranking(where={"size": "1"})) == []
    table("".join(rows[:-1]))()
    (message,) = told_of_set(ranking(where={"size": "1"}))
    assert message == "table.csv: set set: 1 of 23 pictures have no row and are left out (022.png)"


def test_unknown_values_of_many_attributes_are_summed_up() -> None:
    names = [f"a{number}" for number in range(8)]
    Path("many.yaml").write_text("".join(f"{name}: [{{text: more {name}, reverse: less {name}}}]\n" for name in names))
    cells = {"red": "1", "green": "2", "blue": ""}
    lines = [",".join([name, *[cell] * 8]) for name, cell in cells.items()]
    Path("classes.csv").write_text("\n".join([",".join(["name", *names]), *lines]) + "\n")
    settings = {"images": "classes", "table": "classes.csv", "key": "name", "texts": "many.yaml"}
    (message,) = told_of_set(ranking(level="class", **settings))
    assert message.startswith('classes.csv: set set: 1 of 3 classes have no value of "a0" and no part in it; 1 of 3')
    assert message.endswith('"a4" and no part in it; and so on for 3 attributes more, 8 values in all')
    (message,) = told_of_set(ranking(level="class_images", **settings))
    assert '5 of 15 pictures have no value of "a0"' in message


def test_classes_without_images_are_reported(
    make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    write_tars()
    callback = shot(images="tars")
    with pytest.warns(UserWarning, match="1 of 2 classes have no image in tars: blue; they are choices all the same"):
        make_trainer([callback]).test(make_module(), verbose=False)
    assert counts(callback)["set", "top1"] == 3

    Path("classes.csv").write_text("name,brightness\nred,1\nblue,2\n")
    for level, message in (("class", "1 classes have no image"), ("class_images", "1 classes have no image")):
        means = ranking(images="tars", table="classes.csv", key="name", level=level)
        with pytest.warns(UserWarning, match=message), pytest.raises(ValueError, match="fewer than two distinct"):
            make_trainer([means]).test(make_module(), verbose=False)


def test_folds_of_the_ceiling_keep_classes_whole(
    make_module: Callable[..., Any], make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(images: Tensor, values: Tensor, groups: Tensor, seed: int) -> Tensor:
        seen.append(groups.tolist())
        return images[:, 0]

    seen: list[list[int]] = []
    monkeypatch.setattr("pcclip.callbacks.attribute_ranking.FOLDS", 2)
    monkeypatch.setattr("pcclip.metrics.ceiling.ridge_scores", record)
    Path("classes.csv").write_text("name,brightness\nred,1\ngreen,2\nblue,3\n")
    for level in ("class_images", "class"):
        callback = ranking(images="classes", table="classes.csv", key="name", level=level, ceiling=True)
        make_trainer([callback]).test(make_module(), verbose=False)
    make_trainer([ranking(ceiling=True)]).test(make_module(), verbose=False)
    by_class_images, by_class, by_image = seen
    assert [by_class_images.count(group) for group in sorted(set(by_class_images))] == [5, 5, 5]
    assert by_class_images == sorted(by_class_images)  # images come class by class
    assert len(set(by_class)) == 3
    assert len(set(by_image)) == 22


def test_each_picture_may_have_its_class_s_value(
    make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    Path("classes.csv").write_text("name,brightness\nred,1\ngreen,3\n")
    callback = ranking(images="classes", table="classes.csv", key="name", level="class_images", images_per_draw=4)
    make_trainer([callback]).test(make_module(), verbose=False)
    assert counts(callback)["set/brightness", "spearman"] == 10
    assert counts(callback)["set/brightness", "forced_choice"] == 25  # pairs of a red and a green picture
    assert told_of_set(callback) == ["classes.csv: set set: 1 of 3 classes have no row and are left out (blue)"]
