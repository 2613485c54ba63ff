"""Split of a folder of embedded objects into training and test objects, for `make real-clip`.

The folder holds `images.npy` (N, D) and `objects.jsonl`, row by row, `differences.jsonl` about pairs of these objects in
groups, and embeddings of words by the same CLIP: `words.npy` and `words.txt`.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pcclip.atomic import atomic_folder
from pcclip.data.stored_embeddings import open_array
from pcclip.data.table_rows import table_rows
from pcclip.paths import read_text


def split_objects(folder: str, output: str, groups: list[str]) -> None:
    """Write the folders `train`, `test` and `words`, each with `images.npy` and `objects.jsonl`.

    Test objects are in no pair of the other groups. `train` also has the `differences.jsonl` of the other groups.

    Args:
        folder: The folder of the objects.
        output: Folder of the results, which are replaced.
        groups: Groups of pairs to hold out.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: An unknown group, embeddings and rows differ in number, or a split would be empty.
    """
    source = Path(folder)
    objects, differences = (list(table_rows(source / name)) for name in ("objects.jsonl", "differences.jsonl"))
    if unknown := sorted(set(groups) - {row["group"] for row in differences}):
        raise ValueError(f"{source / 'differences.jsonl'}: has no group {', '.join(unknown)}")
    kept = [row for row in differences if row["group"] not in groups]
    trained = {row[side] for row in kept for side in ("first", "second")}
    words = [{"id": word, "captions": [word]} for word in read_text(source / "words.txt", "words").splitlines()]
    is_train = np.array([row["id"] in trained for row in objects])
    if is_train.all() or not is_train.any():
        raise ValueError(f"{source}: {is_train.sum()} of {len(objects)} objects train; hold out other groups")
    for name, rows, images, chosen in (
        ("train", objects, "images.npy", is_train),
        ("test", objects, "images.npy", ~is_train),
        ("words", words, "words.npy", np.ones(len(words), bool)),
    ):
        embeddings = open_array(source / images)
        if len(embeddings) != len(rows):
            raise ValueError(f"{source / images}: {len(embeddings)} embeddings, but {len(rows)} rows describe them")
        with atomic_folder(Path(output, name)) as made:
            np.save(made / "images.npy", embeddings[chosen])
            _write(made / "objects.jsonl", (row for row, own in zip(rows, chosen.tolist(), strict=True) if own))
            if name == "train":
                _write(made / "differences.jsonl", kept)
        print(f"{output}/{name}: {chosen.sum()} embeddings")


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    file.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
