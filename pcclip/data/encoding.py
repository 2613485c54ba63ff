"""Image embeddings of many pictures, at the speed of the image tower: pictures are decoded in worker processes."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pcclip.data.labelled import Picture
from pcclip.data.pictures import UnreadableImageError

FEW = 64  # pictures that are not worth starting worker processes for
Task = tuple[int, Picture]


class ImageEncoder(Protocol):
    """A model that embeds images."""

    image_transform: Callable[[Image.Image], Tensor]
    embed_dim: int

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        ...

    def encode_images(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) uint8, as `image_transform` makes them, to unit embeddings (B, D)."""
        ...


@dataclass(frozen=True)
class Encoded:
    """One batch of pictures."""

    places: Tensor
    """Numbers of the pictures that can be read, (B,)."""
    embeddings: Tensor
    """Their unit embeddings, (B, D) float32 on the CPU."""
    unreadable: dict[int, str]
    """The reason for each of the other pictures, by its number."""


def encode_pictures(
    model: ImageEncoder, pictures: Sequence[Task], *, batch_size: int, workers: int | None = None
) -> Iterator[Encoded]:
    """Decode and embed pictures, without gradients, and yield them batch by batch in their order.

    Args:
        model: The model, in evaluation mode.
        pictures: (Number, picture). The number is any that the caller wants back.
        batch_size: Pictures to encode at a time.
        workers: Processes that decode. None: as many as there are cores to spare, up to eight.
    """
    waiting: tuple[Tensor, Tensor, dict[int, str]] | None = None
    for images, places, unreadable in _loader(model, pictures, batch_size, workers):
        rows = torch.zeros(0, model.embed_dim)
        if images is not None:
            with torch.no_grad():
                rows = model.encode_images(images.to(model.device, non_blocking=True)).float()
        # Fetched only when the next batch is on its way, so that the device does not wait for what is done with it.
        if waiting is not None:
            yield Encoded(waiting[0], waiting[1].cpu(), waiting[2])
        waiting = places, rows, unreadable
    if waiting is not None:
        yield Encoded(waiting[0], waiting[1].cpu(), waiting[2])


def _loader(
    model: ImageEncoder, pictures: Sequence[Task], batch_size: int, workers: int | None
) -> DataLoader[tuple[Tensor | str, int]]:
    if workers is None:
        workers = min(8, len(os.sched_getaffinity(0)) - 1)
    if len(pictures) <= FEW:
        workers = 0
    waiting = iter(pictures)
    # Workers are handed the pictures themselves, so that none holds the whole list.
    batches = iter(lambda: list(islice(waiting, batch_size)), [])
    return DataLoader(
        _Decoded(model.image_transform),
        batch_sampler=batches,  # of pictures, not of indices
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=model.device.type == "cuda",
        generator=torch.Generator().manual_seed(0),  # a loader without its own draws from the global one
    )


class _Decoded(Dataset[tuple[Tensor | str, int]]):
    """Pixels (3, H, W) of pictures, or the reason why one cannot be read, each with its number."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        self._transform = transform

    def __getitem__(self, task: Task) -> tuple[Tensor | str, int]:
        place, picture = task
        try:
            return self._transform(picture.decode()), place
        except UnreadableImageError as error:
            return error.reason, place


def _collate(items: Sequence[tuple[Tensor | str, int]]) -> tuple[Tensor | None, Tensor, dict[int, str]]:
    images = [image for image, _ in items if isinstance(image, Tensor)]
    places = torch.tensor([place for image, place in items if isinstance(image, Tensor)], dtype=torch.long)
    unreadable = {place: why for why, place in items if isinstance(why, str)}
    return torch.stack(images) if images else None, places, unreadable
