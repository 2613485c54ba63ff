"""Step `transfer`: reuse difference texts about classes for other images of the same classes.

Texts written for classes ("a trolleybus ..., a golden retriever ...") are also true of held-out images of these classes.
Images with the same caption ("a photo of a trolleybus") are of one class.
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
    """Reuse difference texts about classes for other images of the same classes."""

    version: ClassVar[int] = 1

    differences: str = field(metadata=INPUT)
    """The `differences.jsonl` with texts about classes."""
    captions: str = field(metadata=INPUT)
    """The `captions.jsonl` of its images."""
    to_captions: str = field(metadata=INPUT)
    """The `captions.jsonl` of the other images."""
    groups: str = "*"
    """Shell pattern of the group names to use."""
    seed: int = 0
    """Seed of the choice of images."""

    def make(self, manifest: Manifest) -> Made:
        rows = write_jsonl(Path(self.output), transferred(self.input_files(), self))
        return Made({"pairs": rows}, message=f"{rows} pairs")


def transferred(files: dict[str, Path], options: Transfer) -> Iterator[Row]:
    """Yield the rows with other images. Within a group, the replacement is one-to-one."""
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
        for image in (row["first"], row["second"]):
            if image in others:
                continue
            where = f"{files['differences']}, line {number}"
            if image not in class_of:
                raise ValueError(f"{where}: image {image!r} is not in {files['captions']}; fix or delete the row")
            taken = set(others.values())
            free = [other for other in pictures.get(class_of[image], []) if other not in taken]
            if not free:
                raise ValueError(
                    f"{where}: {files['to_captions']} has no unused image with the caption {class_of[image]!r} to replace "
                    f"{image!r}; add one, or choose other `groups`"
                )
            others[image] = free[int(rng.integers(len(free)))]
        yield {**row, "first": others[row["first"]], "second": others[row["second"]]}
    if not replaced:
        raise ValueError(
            f"{files['differences']}: transfer.groups: {options.groups!r} matches no group. Groups are named like "
            f"{min(names, default='')!r}"
        )
