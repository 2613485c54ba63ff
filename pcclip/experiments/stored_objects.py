"""Split of a folder of embedded objects into training and test objects, for `make real-clip`.

The folder holds `images.npy` (N, D) and `objects.jsonl`, row by row, `differences.jsonl` about pairs of these objects in
groups, and embeddings of words by the same CLIP: `words.npy` and `words.txt`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcclip.atomic import atomic_folder
from pcclip.data.stored_embeddings import open_array, unit
from pcclip.data.table_rows import table_rows
from pcclip.paths import read_text


def split_objects(folder: str, output: str, groups: list[str]) -> None:
    """Write the folders `train`, `test` and `words`, each with `images.npy` and `objects.jsonl`.

    Test objects are in no pair of the other groups. `train` also has the `differences.jsonl` of the other groups.

    `words` stand in for images: each is its own caption, alone and in "a photo of a ...". CLIP's texts lie in another cone
    than its images (arXiv 2203.02053), so the words are moved by the difference of the means.

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
    words = [
        {"id": word, "captions": [word, f"a photo of a {word}"]}
        for word in read_text(source / "words.txt", "words").splitlines()
    ]
    is_train = np.array([row["id"] in trained for row in objects])
    if is_train.all() or not is_train.any():
        raise ValueError(f"{source}: {is_train.sum()} of {len(objects)} objects train; hold out other groups")
    images, texts = (_rows(source / name, rows) for name, rows in (("images.npy", objects), ("words.npy", words)))
    moved = unit(texts - texts.mean(0) + images[is_train].mean(0))
    for name, rows, embeddings in (
        ("train", [row for row, own in zip(objects, is_train, strict=True) if own], images[is_train]),
        ("test", [row for row, own in zip(objects, is_train, strict=True) if not own], images[~is_train]),
        ("words", words, moved),
    ):
        with atomic_folder(Path(output, name)) as made:
            np.save(made / "images.npy", embeddings)
            _write(made / "objects.jsonl", rows)
            if name == "train":
                _write(made / "differences.jsonl", kept)
        print(f"{output}/{name}: {len(rows)} embeddings")


def _rows(file: Path, rows: Sequence[Any]) -> NDArray[np.float32]:
    embeddings = open_array(file)
    if len(embeddings) != len(rows):
        raise ValueError(f"{file}: {len(embeddings)} embeddings, but {len(rows)} rows describe them")
    return embeddings.astype(np.float32)


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    file.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
