"""Step `transfer`: give difference texts about classes to other pictures of the same classes.

Where texts were written for classes ("a trolleybus ..., a golden retriever ..."), they are as true of held-out pictures of
these classes. Pictures are of one class when they have the same caption ("a photo of a trolleybus").
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar

import numpy as np

from data_prep.files import DIFFERENCE_KEYS, Row, read_captions, read_jsonl, write_jsonl
from data_prep.manifest import Manifest
from data_prep.step import INPUT, Made, OutputStep


@dataclass(kw_only=True)
class Transfer(OutputStep):
    """Give difference texts about classes to other pictures of the same classes."""

    version: ClassVar[int] = 1

    differences: str = field(metadata=INPUT)
    """The `differences.jsonl` with texts about classes."""
    captions: str = field(metadata=INPUT)
    """The `captions.jsonl` of its pictures."""
    to_captions: str = field(metadata=INPUT)
    """The `captions.jsonl` of the pictures that get the texts."""
    groups: str = "*"
    """Shell pattern of the names of the groups to take."""
    seed: int = 0
    """Seed of the choice of pictures."""

    def make(self, manifest: Manifest) -> Made:
        """Write the same groups and texts with other pictures.

        Raises:
            ValueError: A row names an unknown picture, no picture of its class is left to take its place, or no group
                matches.
        """
        rows = write_jsonl(Path(self.output), transferred(self.input_files(), self))
        return Made({"pairs": rows}, message=f"{rows} pairs")


def transferred(files: dict[str, Path], options: Transfer) -> Iterator[Row]:
    """The rows with other pictures; within a group, a picture gives way to the same other one, and no two to one.

    Raises:
        ValueError: As `Transfer.make`.
    """
    rng = np.random.default_rng(options.seed)
    class_of = {row["id"]: " ".join(row["captions"]) for _, row in read_captions(files["captions"])}
    pictures: dict[str, list[str]] = {}
    for _, row in read_captions(files["to_captions"]):
        pictures.setdefault(" ".join(row["captions"]), []).append(row["id"])
    replaced: dict[str, dict[str, str]] = {}
    names: set[str] = set()
    for number, row in read_jsonl(files["differences"], DIFFERENCE_KEYS):
        names.add(row["group"])
        if not fnmatchcase(row["group"], options.groups):
            continue
        others = replaced.setdefault(row["group"], {})
        for picture in (row["first"], row["second"]):
            if picture in others:
                continue
            where = f"{files['differences']}, line {number}"
            if picture not in class_of:
                raise ValueError(f"{where}: picture {picture!r} is not in {files['captions']}; fix or delete the row")
            taken = set(others.values())
            free = [other for other in pictures.get(class_of[picture], []) if other not in taken]
            if not free:
                raise ValueError(
                    f"{where}: {files['to_captions']} has no unused picture of {class_of[picture]!r} to take the place of "
                    f"{picture!r}; add one with the very same caption, or choose other `groups`"
                )
            others[picture] = free[int(rng.integers(len(free)))]
        yield {**row, "first": others[row["first"]], "second": others[row["second"]]}
    if not replaced:
        raise ValueError(
            f"{files['differences']}: transfer.groups: {options.groups!r} matches none of its groups; their names are like "
            f"{sorted(names)[:1]}"
        )
