"""Two processes find what one process finds, with images that do not divide evenly among them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import run_world
from tests.helpers.processes import run_ranks
from tests.tasks.test_shards import write_shards

pytestmark = pytest.mark.distributed


@pytest.mark.parametrize("frozen", ["frozen", "trained"])
def test_two_processes_equal_one(world: Path, tmp_path: Path, frozen: str) -> None:
    tables: list[list[dict[str, Any]]] = []
    warnings = []
    world = Path(shutil.copytree(world, tmp_path / "world"))
    (world / "images" / "damaged.png").write_bytes(b"not a picture")
    shutil.copy(world / "images" / "001.png", world / "images" / "again.png")
    with (world / "table.csv").open("a") as stream:
        stream.write("damaged.png,0.5,a\nagain.png,0.5,a\n")
    write_shards(world / "shards", damage=True)
    shutil.copytree(world / "classes", world / "grid")
    shutil.copytree(world / "classes" / "red", world / "grid" / "yellow", ignore=shutil.ignore_patterns("0.png"))
    texts = [
        {"first": a, "second": b, "text": f"the {a} square is brighter"}
        for a, b in (("red", "blue"), ("blue", "green"))
    ]
    edits = [{"image": f"red/{i}.png", "source": "red", "target": "blue", "answer": "blue"} for i in range(5)]
    grid = [("red", 1, "a"), ("green", 1, "b"), ("blue", 2, "a"), ("yellow", 2, "b")]
    rows = [{"name": name, "row": row, "column": column} for name, row, column in grid]
    for name, content in (("comparatives", texts), ("edits", edits), ("grid", rows)):
        (world / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    choice = {"caption": "a red square", "negative_caption": "a blue square"}
    choices = {str(i): {"filename": f"{i}.png", **choice} for i in range(5)}
    (world / "choices.json").write_text(json.dumps(choices))
    for devices in (1, 2):
        output = tmp_path / str(devices)
        arguments = (world, output, devices, frozen == "frozen")
        said = run_ranks(devices, run_world.main, *arguments, printed=tmp_path / f"{devices}.txt")
        tables.append([row for name in ("fit", "test") for row in json.loads((output / f"{name}.json").read_text())])
        warnings.append(said.count("1 of 25 images are damaged"))
        assert (output / "logs" / "run" / "ranked_world_brightness.png").is_file()
    assert len({row["task"] for row in tables[0]}) == 9
    for one, two in zip(*tables, strict=True):
        numbers = ("value", "low", "high")
        assert {key: one[key] for key in one if key not in numbers} == {
            key: two[key] for key in two if key not in numbers
        }
        assert [one[key] for key in numbers] == pytest.approx([two[key] for key in numbers], abs=1e-5)
    assert warnings[0] == warnings[1] > 0
