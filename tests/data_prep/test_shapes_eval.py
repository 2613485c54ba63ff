"""What the world's evaluations read: pictures of every class, and texts that are true of them."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from data_prep.world import shapes
from data_prep.world.captioner import captions
from data_prep.world.describer import describe
from data_prep.world.eval_texts import ATTRIBUTES, caption_choice
from data_prep.world.scene import COLOURS, SHAPES, TRAINING, UNSEEN, random_scene
from data_prep.world.wordings import PROMPTS
from pcclip.data.labelled import read_images
from pcclip.datasets.annotations import read_caption_choices, read_comparatives
from pcclip.datasets.edits import read_edits
from pcclip.datasets.tables import read_table


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


def test_comparatives_say_of_the_first_what_is_true_of_the_first(made: Path) -> None:
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


def test_no_word_is_new_to_the_model(made: Path) -> None:
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


def test_held_out_pictures_are_no_other_part_s(made: Path) -> None:
    assert len(UNSEEN) == 16
    again = made.with_name("again")
    shapes.ShapesEval(output=str(again), per_combination=1, probe=2, workers=1).run()
    files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((made / file).read_bytes() == (again / file).read_bytes() for file in files)
