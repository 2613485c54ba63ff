"""Pictures of the world show their attributes and are reproducible. Evaluation texts are true of them."""

import csv
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy import ndimage  # type: ignore[import-untyped]

from data_prep.world import shapes
from data_prep.world.captioner import captions
from data_prep.world.describer import describe
from data_prep.world.draw import coverage, draw
from data_prep.world.eval_texts import caption_choice
from data_prep.world.scene import (
    ATTRIBUTES,
    COLOURS,
    PICTURE,
    SHAPES,
    TRAINING,
    UNSEEN,
    random_scene,
)
from data_prep.world.wordings import PROMPTS
from pcclip.data.labelled import read_images
from pcclip.datasets.annotations import read_caption_choices, read_comparatives
from pcclip.datasets.edits import read_edits
from pcclip.datasets.tables import read_table
from pcclip.datasets.texts import read_texts
from tests.data_prep.conftest import Rows


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lit(colour: ArrayLike) -> NDArray[np.float64]:
    """A colour or grey level under the world's light, for each column of a picture, (side, 3)."""
    share = np.arange(PICTURE)[:, None] / (PICTURE - 1)
    return np.clip(np.add(colour, [22, 0, -22]) - share * [44, 0, -44], 0, 255)


def test_pictures_show_their_attributes() -> None:
    rng = np.random.default_rng(0)
    for scene in (random_scene(rng, TRAINING) for _ in range(200)):
        # Measured on the finished picture: what is not background, with the colour's own distance from it as full cover,
        # both as the light makes them look in each column.
        pixels = np.asarray(draw(scene, COLOURS[scene.colour], PICTURE), dtype=float)
        ground = lit(scene.brightness * 255)
        assert np.abs(pixels - ground)[coverage(scene, PICTURE) == 0].max() <= 1
        paint = lit(np.clip(np.array(COLOURS[scene.colour]) + scene.tint, 0, 255)) - ground
        covered = np.clip(((pixels - ground) * paint).sum(axis=-1) / (paint**2).sum(axis=-1), 0, 1)
        covered[covered < 0.05] = 0  # grey levels are whole numbers, so the background is off by up to a half
        assert ndimage.label(covered > 0.4, np.ones((3, 3)))[1] == scene.count
        assert covered.sum() / scene.count / PICTURE**2 == pytest.approx(scene.size**2, rel=0.14)
        columns = np.flatnonzero((covered > 0.3).any(axis=0))
        assert (columns[0] + columns[-1] + 1) / 2 / PICTURE == pytest.approx(scene.position, abs=0.02)
        rim = np.concatenate([covered[0], covered[-1], covered[:, 0], covered[:, -1]])
        assert rim.max() < 0.6  # nothing is cut off at the edges


def test_size_means_the_same_for_all_shapes() -> None:
    rng = np.random.default_rng(1)
    areas: dict[str, list[float]] = {shape: [] for shape in SHAPES}
    for scene in (random_scene(rng, TRAINING) for _ in range(800)):
        areas[scene.shape].append(coverage(scene, PICTURE).sum() / scene.count / (scene.size * PICTURE) ** 2)
    means = [np.mean(values) for values in areas.values()]
    assert max(means) / min(means) < 1.06  # 3 % in size, well below the least difference that is spoken of


def test_attributes_are_independent() -> None:
    rng = np.random.default_rng(2)
    drawn = [random_scene(rng, TRAINING) for _ in range(3000)]
    table = np.array([[scene.size, scene.count, scene.brightness, scene.position] for scene in drawn])
    assert np.abs(np.corrcoef(table.T) - np.eye(4)).max() < 0.06


def test_files(world: Path, read: Callable[[Path], Rows]) -> None:
    for part, number in (("train", 48), ("val", 12)):
        rows = read(world / f"shapes/{part}/captions.jsonl")
        assert len(rows) == number
        for row in rows:
            assert len(set(row["captions"])) == 5
            assert (row["attributes"]["shape"], row["attributes"]["colour"]) not in UNSEEN
            with Image.open(world / "shapes" / part / row["file"]) as image:
                assert (image.size, image.mode) == ((64, 64), "RGB")
    with (world / "shapes/test/attributes.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == 10
    assert list(table[0]) == ["image", "size", "count", "brightness", "position", "shape", "colour"]
    assert {row["image"] for row in table} == {path.name for path in (world / "shapes/test/images").iterdir()}
    for name in ("texts", "texts_second_leads"):
        file = world / f"shapes/test/{name}.yaml"
        assert set(read_texts(file)) == {"size", "count", "brightness", "position"}
        assert all(texts.prompts for texts in read_texts(file).values())
    classes = world / "shapes/zero_shot"
    assert {path.name for path in (classes / "shape").iterdir()} == set(SHAPES)
    assert {path.name for path in (classes / "colour").iterdir()} == set(COLOURS)
    assert {path.name for path in (classes / "unseen").iterdir()} == {f"{colour} {shape}" for shape, colour in UNSEEN}
    assert all(len(list(folder.iterdir())) == 2 for folder in classes.glob("*/*"))


def test_no_picture_occurs_in_two_parts(world: Path, made: Path) -> None:
    files = [file for folder in (world / "shapes", made) for file in tree(folder).items()]
    pictures = [content for name, content in files if name.endswith(".png")]
    assert len(set(pictures)) == len(pictures)


def test_the_same_seed_gives_the_same_bytes_with_any_workers(world: Path, tmp_path: Path) -> None:
    sizes = {"train": 48, "val": 12, "test": 10, "per_class": 2}
    shapes.Shapes(output=str(tmp_path / "again"), workers=2, **sizes).run()
    assert tree(tmp_path / "again") == tree(world / "shapes")
    manifests = [path.read_text() for path in (tmp_path / "again.manifest.json", world / "shapes.manifest.json")]
    assert manifests[0] == manifests[1]
    shapes.Shapes(output=str(tmp_path / "other"), seed=1, workers=1, **sizes).run()
    assert tree(tmp_path / "other")["train/captions.jsonl"] != tree(world / "shapes")["train/captions.jsonl"]


def test_more_training_pictures_do_not_change_other_parts(world: Path, tmp_path: Path) -> None:
    shapes.Shapes(output=str(tmp_path / "more"), train=50, val=12, test=10, per_class=2, workers=1).run()
    mine, theirs = tree(tmp_path / "more"), tree(world / "shapes")
    assert all(mine[name] == content for name, content in theirs.items() if name != "train/captions.jsonl")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval") / "eval"
    shapes.ShapesEval(output=str(folder), per_combination=1, probe=2, workers=1).run()
    return folder


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z-]+", text.lower()))


def test_files_are_what_the_readers_expect(made: Path) -> None:
    grid = read_images(made / "grid")
    assert set(grid.classes) == {f"{colour} {shape}" for shape in SHAPES for colour in COLOURS}
    assert set(read_table(made / "classes.jsonl", "name").keys) == set(grid.classes)
    assert len(read_edits(made / "edits.jsonl", grid).images) == 2 * len(grid.images)
    assert set(read_caption_choices(made / "choices")) == {f"replace_{attribute}" for attribute in ATTRIBUTES}
    assert read_images(made / "probe").classes == sorted(SHAPES)
    pairs = {(row.first, row.second) for row in read_comparatives(made / "comparatives_shape.jsonl")}
    assert len(pairs) == len(SHAPES) * (len(SHAPES) - 1)


def test_comparatives_are_true(made: Path) -> None:
    told = 0
    for row in read_comparatives(made / "comparatives_unseen.jsonl"):
        (colour, shape), (other_colour, other_shape) = row.first.split(), row.second.split()
        own, other = (colour, other_colour) if colour != other_colour else (shape, other_shape)
        assert {own, other} <= {word.removesuffix("s").removesuffix("e") for word in words(row.text)} | words(row.text)
        for role, said in re.findall(
            r"(first|second)(?: image| picture| one)? (?:shows|has|contains) ([^,;.]*)", row.text
        ):
            told += 1
            assert own in said if role == "first" else other in said, row.text
    assert told > 200


def test_edits_name_one_change_and_answer_with_it(made: Path) -> None:
    for line in (made / "edits.jsonl").read_text().splitlines():
        row = json.loads(line)
        before, after = row["source"].split()[1:], row["target"].split()[1:]
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
        shown, answer = row["image"].split("/")[0].split(), row["answer"].split()
        changed = [place for place in (0, 1) if shown[place] != answer[place]]
        assert changed == ([0] if before[-1] == "shape" else [1])
        assert (shown[changed[0]], answer[changed[0]]) == (before[0], after[0])


def test_false_captions_are_false_in_one_attribute() -> None:
    rng = random.Random(0)
    for index in range(50):
        scene = random_scene(np.random.default_rng(index), TRAINING)
        for attribute in ATTRIBUTES:
            caption, negative = caption_choice(rng, scene, attribute)
            assert caption != negative
            assert scene.colour in caption
            assert (scene.colour in negative) == (attribute != "colour")
            assert (scene.shape in negative) == (attribute != "shape")


def test_every_word_occurs_in_training(made: Path) -> None:
    rng = random.Random(1)
    known: set[str] = set()
    for index in range(3000):
        one, other = (random_scene(np.random.default_rng((index, part)), TRAINING) for part in (0, 1))
        known |= {word for text in captions(rng, one, 3) for word in words(text)}
        known |= words(describe(rng, one, other) or "")
    written = [line for name in ("classes", "shapes") for line in (made / f"{name}.jsonl").read_text().splitlines()]
    texts = [json.loads(line)["description"] for line in written]
    texts += [row.text for row in read_comparatives(made / "comparatives_unseen.jsonl")]
    texts += [text for prompts in PROMPTS.values() for pair in prompts for text in pair]
    assert {word for text in texts for word in words(text)} <= known


def test_the_same_seed_gives_the_same_evaluation_files(made: Path, tmp_path: Path) -> None:
    shapes.ShapesEval(output=str(tmp_path / "again"), per_combination=1, probe=2, workers=1).run()
    assert tree(tmp_path / "again") == tree(made)
