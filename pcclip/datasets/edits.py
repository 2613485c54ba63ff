"""Readers of edits for embedding arithmetic: our JSON Lines, and SIMAT's official files."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel

from pcclip.data.labelled import ImageSet, read_images
from pcclip.datasets.tables import Table, read_rows, read_table
from pcclip.datasets.texts import Sentence
from pcclip.metrics.arithmetic import Edits

ORACLE = "oscar_similarity_matrix.pt"


class _Edit(BaseModel):
    image: Sentence
    source: Sentence
    target: Sentence
    answer: Sentence


def read_edits(file: str | Path, image_set: ImageSet) -> Edits:
    """Read edits of labelled images: rows `{"image", "source", "target", "answer"}`.

    `image` is the key of an image (`class/file` in class folders). `source` and `target` are texts ("red", "blue"). `answer` is
    the class whose images are right.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The images have no classes; or a row has another form, or names an unknown image or class.
    """
    rows = read_rows(file, _Edit, "edits")
    if not image_set.classes:
        raise ValueError(f"{image_set.source}: images without classes, but the answers of {file} are classes")
    place = {image.key: index for index, image in enumerate(image_set.images)}
    label = {name: index for index, name in enumerate(image_set.classes)}
    for where, row in rows:
        if row.image not in place:
            raise ValueError(f'{where}: no image "{row.image}" in {image_set.source}')
        if row.answer not in label:
            raise ValueError(f'{where}: no class "{row.answer}" in {image_set.source}')
    return Edits(
        images=torch.tensor([place[row.image] for _, row in rows]),
        sources=[row.source for _, row in rows],
        targets=[row.target for _, row in rows],
        answers=torch.tensor([label[row.answer] for _, row in rows]),
        right=_members(image_set),
        weights=torch.ones(len(rows)),
        labels=_labels(image_set),
    )


def read_simat(
    folder: str | Path, domain: Literal["dev", "test"] = "test", oracle: Literal["oscar", "triplets"] = "oscar"
) -> tuple[ImageSet, Edits]:
    """Read SIMAT's `simat_db` folder: `transfos.csv`, `triplets.csv`, `images/A dog sitting on a bench/61.jpg`, ...

    Args:
        folder: The folder, after SIMAT's `prepare_dataset.py` has put its images there.
        domain: Split of the edits.
        oracle: Which images are right. `oscar`: those with a similarity over 0.5 in `oscar_similarity_matrix.pt`, as in
            SIMAT. `triplets`: those of the triplet that the edit asks for, which needs no such file and is stricter.

    Returns:
        The images, and the edits with SIMAT's weights. By triplets, some edits have no right image; see `without`.

    Raises:
        FileNotFoundError: The folder or one of its files is missing.
        ValueError: Images are missing, or files do not fit together.
    """
    folder = Path(folder)
    needed = ["images", "transfos.csv", ORACLE if oracle == "oscar" else "triplets.csv"]
    if missing := [name for name in needed if not (folder / name).exists()]:
        raise FileNotFoundError(
            f"{folder}: {', '.join(missing)} not found; download `simat_db` of github.com/facebookresearch/SIMAT, and make "
            "its images from Visual Genome with its prepare_dataset.py"
        )
    image_set = read_images(folder / "images")
    table = read_table(folder / "transfos.csv", "transfo_id", {"is_test": str(domain == "test")})
    images = table.numbers("dataset_id", table.keys).long()
    _check_images(image_set, images.tolist(), list(table.texts("region_id").values()))
    if oracle == "oscar":
        answers, right = table.numbers("target_ids", table.keys).long(), _oscar(folder / ORACLE, len(image_set.images))
        if int(answers.max()) >= len(right):
            raise ValueError(f"{table.file}: target {int(answers.max())}, but {ORACLE} knows {len(right)} captions")
    else:
        answers, right = _by_triplet(folder / "triplets.csv", table, image_set)
    edits = Edits(
        images=images,
        sources=list(table.texts("value").values()),
        targets=list(table.texts("target").values()),
        answers=answers,
        right=right,
        weights=table.numbers("norm2", table.keys).rsqrt(),
        labels=_labels(image_set),
    )
    return image_set, edits


def without(edits: Edits, kept: list[int], count: int) -> tuple[Edits, int]:
    """Return the edits of intact images that have a right image, and the number of the other edits.

    Args:
        edits: Edits of N images.
        kept: Indices of the M intact images.
        count: N.
    """
    place = torch.full((count,), -1)
    place[kept] = torch.arange(len(kept))
    right = edits.right[:, kept]
    moved = place[edits.images]
    candidates = right[edits.answers].sum(1)
    own = (moved >= 0) & right[edits.answers, moved.clamp(min=0)]
    rows = ((moved >= 0) & (candidates > own.long())).nonzero().view(-1)
    chosen = rows.tolist()
    few = Edits(
        moved[rows],
        [edits.sources[row] for row in chosen],
        [edits.targets[row] for row in chosen],
        edits.answers[rows],
        right,
        edits.weights[rows],
        edits.labels[kept] if edits.labels is not None else None,
    )
    return few, len(edits.images) - len(chosen)


def _labels(image_set: ImageSet) -> torch.Tensor:
    return torch.tensor([image.label for image in image_set.images])


def _members(image_set: ImageSet) -> torch.Tensor:
    return _labels(image_set)[None, :] == torch.arange(len(image_set.classes))[:, None]


def _oscar(file: Path, images: int) -> torch.Tensor:
    similarity = torch.as_tensor(torch.load(file, map_location="cpu", weights_only=True))
    if similarity.ndim != 2 or len(similarity) != images:
        raise ValueError(
            f"{file}: similarities {tuple(similarity.shape)}, but there are {images} images; make the images again"
        )
    return (similarity > 0.5).T.contiguous()


def _by_triplet(file: Path, table: Table, image_set: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the fields `answers` (Q,) and `right` (A, N) of `Edits`, for images that are right by their triplet."""
    parts = ("subj", "rel", "obj")
    triplets = read_table(file, "region_id").cells.to_dict("index")
    folders = []
    for row in table.cells.to_dict("records"):
        triplet = {part: triplets[row["region_id"]][part] for part in parts} | {row["field"]: row["target"]}
        folders.append(f"A {triplet['subj']} {triplet['rel']} {triplet['obj']}")
    place = {name: index for index, name in enumerate(dict.fromkeys(folders))}
    members = dict(zip(image_set.classes, _members(image_set), strict=True))
    nothing = torch.zeros(len(image_set.images), dtype=torch.bool)
    right = torch.stack([members.get(name, nothing) for name in place])
    return torch.tensor([place[name] for name in folders]), right


def _check_images(image_set: ImageSet, images: list[int], regions: list[str]) -> None:
    """Check that all images are there. Edits give an index into the sorted images, so a missing image shifts the others."""
    for image, region in zip(images, regions, strict=True):
        if image >= len(image_set.images) or Path(image_set.images[image].key).stem != region:
            raise ValueError(
                f"{image_set.source}: image number {image} should be {region}.jpg; some of SIMAT's images are "
                "missing or added, make them again with its prepare_dataset.py"
            )
