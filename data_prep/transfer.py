"""Step `transfer`: give difference texts about classes to other pictures of the same classes.

Where texts were written for classes ("a trolleybus ..., a golden retriever ..."), they are as true of held-out pictures of
these classes. Pictures are of one class when they have the same caption ("a photo of a trolleybus").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from omegaconf import MISSING

from data_prep.files import DIFFERENCE_KEYS, Row, read_captions, read_jsonl, write_jsonl
from data_prep.manifest import Manifest
from pcclip.data.format import sha256_of

STEP_VERSION = 1


@dataclass
class Options:
    """Options of the step.

    Attributes:
        differences: The `differences.jsonl` with texts about classes.
        captions: The `captions.jsonl` of its pictures.
        to_captions: The `captions.jsonl` of the pictures that get the texts.
        output: The `differences.jsonl` to write.
        groups: Shell pattern of the names of the groups to take.
        seed: Seed of the choice of pictures.
    """

    differences: str = MISSING
    captions: str = MISSING
    to_captions: str = MISSING
    output: str = MISSING
    groups: str = "*"
    seed: int = 0


def run(options: Options) -> None:
    """Read `differences` and both `captions`, write `output`: the same groups and texts, other pictures.

    Raises:
        FileNotFoundError: An input is missing.
        ValueError: A row names an unknown picture, or no picture of its class is there to take its place.
    """
    output = Path(options.output)
    files = {name: Path(getattr(options, name)) for name in ("differences", "captions", "to_captions")}
    manifest = Manifest(
        "transfer",
        STEP_VERSION,
        {name: sha256_of(file) for name, file in files.items()},
        {"groups": options.groups, "seed": options.seed},
    )
    if manifest.matches(output):
        print(f"{output} is up to date")
        return
    rows = write_jsonl(output, transferred(files, options))
    if not rows:
        output.unlink()
        raise ValueError(f"{files['differences']}: no group matches {options.groups!r} (`groups` of the transfer step)")
    manifest.write(output, {"pairs": rows})
    print(f"{output}: {rows} pairs")


def transferred(files: dict[str, Path], options: Options) -> Iterator[Row]:
    """The rows with other pictures; within a group, a picture is always replaced by the same other one."""
    rng = np.random.default_rng(options.seed)
    class_of = {row["id"]: " ".join(row["captions"]) for _, row in read_captions(files["captions"])}
    pictures: dict[str, list[str]] = {}
    for _, row in read_captions(files["to_captions"]):
        pictures.setdefault(" ".join(row["captions"]), []).append(row["id"])
    chosen: dict[tuple[str, str], str] = {}
    for number, row in read_jsonl(files["differences"], DIFFERENCE_KEYS):
        if not fnmatchcase(row["group"], options.groups):
            continue
        for side in ("first", "second"):
            place = (row["group"], row[side])
            if place not in chosen:
                where = f"{files['differences']}, line {number}"
                if row[side] not in class_of:
                    raise ValueError(f"{where}: picture {row[side]!r} is not in {files['captions']}")
                others = pictures.get(class_of[row[side]])
                if not others:
                    raise ValueError(f"{where}: {files['to_captions']} has no picture of {class_of[row[side]]!r}")
                chosen[place] = others[int(rng.integers(len(others)))]
        yield {**row, "first": chosen[row["group"], row["first"]], "second": chosen[row["group"], row["second"]]}
