"""Embed many pictures. Worker processes decode them, so that the image tower does not wait."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pcclip.data.labelled import Picture
from pcclip.data.pictures import UnreadableImageError
from pcclip.data.stored_embeddings import StoredEmbedding

if TYPE_CHECKING:
    from pcclip.model.clip import DifferenceCLIP

FEW = 64  # up to this number of pictures, starting worker processes takes longer than decoding
Task = tuple[int, Picture]


@dataclass(frozen=True)
class Encoded:
    """Embeddings of one batch of pictures."""

    places: Tensor
    """Indices of the readable pictures, (B,)."""
    embeddings: Tensor
    """Their unit embeddings, (B, D) float32 on the CPU."""
    unreadable: dict[int, str]
    """Reason for each unreadable picture, by its number."""


def encode_pictures(
    model: DifferenceCLIP, pictures: Iterable[Task], *, batch_size: int, workers: int | None = None
) -> Iterator[Encoded]:
    """Decode and embed pictures, without gradients. Yield batches in the order of the pictures.

    Args:
        model: The model, in evaluation mode.
        pictures: (number, picture) pairs. The caller chooses the numbers, which are returned with the embeddings. They are all
            `StoredEmbedding`s, which are only read, or none is.
        batch_size: Pictures in a batch.
        workers: Processes that decode. None: one for each spare core, at most eight.

    Raises:
        ValueError: The model has no image tower, stored embeddings have another width, or both kinds are mixed.
    """
    waiting: tuple[Tensor, Tensor, dict[int, str]] | None = None
    for images, places, unreadable in _loader(model, _checked(model, pictures), batch_size, workers):
        rows = torch.zeros(0, model.embed_dim)
        if images is not None and images.ndim == 2:
            rows = images  # stored embeddings
        elif images is not None:
            with torch.no_grad():
                rows = model.encode_images(images.to(model.device, non_blocking=True)).float()
        # Fetch a batch from the device only after the next one is queued, so that the device never waits.
        if waiting is not None:
            yield Encoded(waiting[0], waiting[1].cpu(), waiting[2])
        waiting = places, rows, unreadable
    if waiting is not None:
        yield Encoded(waiting[0], waiting[1].cpu(), waiting[2])


def _checked(model: DifferenceCLIP, pictures: Iterable[Task]) -> Iterator[Task]:
    kinds: set[bool] = set()
    for place, picture in pictures:
        stored = isinstance(picture, StoredEmbedding)
        kinds.add(stored)
        if len(kinds) > 1:
            raise ValueError(f"{picture.key}: pictures and stored embeddings cannot be mixed; give them separately")
        if isinstance(picture, StoredEmbedding) and picture.width != model.embed_dim:
            raise ValueError(
                f"{picture.path}: embeddings of width {picture.width}, but the model's width is {model.embed_dim}; give the "
                "embeddings of its own image tower"
            )
        if not stored:
            model.require_image_tower(picture.key)
        yield place, picture


def _loader(
    model: DifferenceCLIP, pictures: Iterable[Task], batch_size: int, workers: int | None
) -> DataLoader[tuple[Tensor | str, int]]:
    if workers is None:
        workers = min(8, len(os.sched_getaffinity(0)) - 1)
    waiting = iter(pictures)
    first = list(islice(waiting, FEW + 1))
    if len(first) <= FEW:
        workers = 0
    waiting = chain(first, waiting)
    # Workers receive the pictures, not indices, so that none holds the whole list.
    batches = iter(lambda: list(islice(waiting, batch_size)), [])
    return DataLoader(
        _Decoded(model.image_transform),
        batch_sampler=batches,  # of pictures, not of indices
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=model.device.type == "cuda",
        generator=torch.Generator().manual_seed(0),  # otherwise the loader draws from torch's global generator
    )


class _Decoded(Dataset[tuple[Tensor | str, int]]):
    """Dataset of pixels (3, H, W), a stored embedding (D,) or why a picture is unreadable, each with the picture's number."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        self._transform = transform

    def __getitem__(self, task: Task) -> tuple[Tensor | str, int]:
        place, picture = task
        if isinstance(picture, StoredEmbedding):
            row = torch.from_numpy(picture.embedding())
            return row if row.isfinite().all() else "its embedding has no direction (zeros, NaN or infinity)", place
        try:
            return self._transform(picture.decode()), place
        except UnreadableImageError as error:
            return error.reason, place


def _collate(items: Sequence[tuple[Tensor | str, int]]) -> tuple[Tensor | None, Tensor, dict[int, str]]:
    images = [image for image, _ in items if isinstance(image, Tensor)]
    places = torch.tensor([place for image, place in items if isinstance(image, Tensor)], dtype=torch.long)
    unreadable = {place: why for why, place in items if isinstance(why, str)}
    return torch.stack(images) if images else None, places, unreadable
