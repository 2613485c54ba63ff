"""Embed many pictures, and list them by their scores. Known embeddings are read from the store, the others are encoded.

Embeddings of more than `IN_MEMORY` bytes are in a temporary file. Memory then holds only names and locations of the pictures,
about 250 bytes each.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from pcclip.data.embedding_store import EmbeddingStore
from pcclip.data.encoding import encode_pictures
from pcclip.data.labelled import ImageFile, Picture, decoded
from pcclip.metrics.protocol import check_damaged
from pcclip.model.clip import DifferenceCLIP

IN_MEMORY = 1 << 28
CHUNK = 16_384  # rows of embeddings that are processed at a time


@dataclass(frozen=True)
class Gallery:
    """Pictures and their embeddings.

    Attributes:
        pictures: N readable pictures.
        embeddings: Their unit embeddings, (N, D) float32 on the CPU.
        unreadable: Reason for each unreadable picture, by name.
    """

    pictures: list[Picture]
    embeddings: Tensor
    unreadable: dict[str, str]

    def chunks(self) -> Iterator[Tensor]:
        """Return the embeddings in chunks of rows."""
        return (self.embeddings[start : start + CHUNK] for start in range(0, len(self.embeddings), CHUNK))

    def mean(self) -> Tensor:
        """Return the mean embedding, (D,)."""
        total = torch.zeros(self.embeddings.shape[1], dtype=torch.float64)
        for chunk in self.chunks():
            total += chunk.sum(0, dtype=torch.float64)
        return (total / max(1, len(self.pictures))).float()

    def pick(self, index: int, within: int) -> Image.Image | None:
        """Decode a picture again, with at most about `within` pixels per side. None if it is no longer readable."""
        return decoded(self.pictures[index], within)


def embed_pictures(
    clip: DifferenceCLIP,
    pictures: Sequence[Picture],
    *,
    store: EmbeddingStore | None = None,
    batch_size: int = 256,
    workers: int | None = None,
    progress: bool = False,
) -> Gallery:
    """Embed pictures. Read known embeddings from the store, encode the others and add them to it.

    Args:
        clip: The model.
        pictures: The pictures.
        store: Cache of embeddings of files; None disables it.
        batch_size: Pictures in a batch.
        workers: Processes that decode; by default one for each spare core, at most eight.
        progress: Whether to show a progress bar in a terminal.

    Raises:
        ValueError: No picture is readable, or too many embeddings are not finite (`check_damaged`).
    """
    embeddings = _room(len(pictures), clip.embed_dim)
    known = torch.zeros(len(pictures), dtype=torch.bool)
    if store is not None:
        files = [picture for picture in pictures if isinstance(picture, ImageFile)]
        if len(files) < len(pictures):
            raise ValueError("pictures in memory cannot be cached; leave `cache` out")
        known = store.load(files, embeddings)
    damaged = 0  # pictures whose embedding is not finite
    missing = (~known).nonzero().view(-1).tolist()
    reasons: dict[int, str] = {}
    with tqdm(total=len(pictures), desc="embedding", unit=" pictures", disable=None if progress else True) as bar:
        bar.update(len(pictures) - len(missing))
        tasks = [(place, pictures[place]) for place in missing]
        for batch in encode_pictures(clip, tasks, batch_size=batch_size, workers=workers):
            places, rows = batch.places, batch.embeddings
            embeddings[places] = rows
            reasons |= batch.unreadable
            if wrong := places[~rows.isfinite().all(1)].tolist():
                damaged += len(wrong)
                check_damaged(damaged, len(pictures))
                reasons |= dict.fromkeys(wrong, "its embedding is not finite")
            if store is not None:
                store.add([files[place] for place in places.tolist()], rows)
            bar.update(len(places) + len(batch.unreadable))
    return _readable(pictures, embeddings, reasons)


def _room(count: int, width: int) -> Tensor:
    """Return a tensor of zeros (N, D): in memory if it is small, else in a temporary file."""
    if count * width * 4 <= IN_MEMORY:
        return torch.zeros(count, width)
    with tempfile.TemporaryFile() as stream:
        return torch.from_numpy(np.memmap(stream, dtype=np.float32, mode="w+", shape=(count, width)))


def _readable(pictures: Sequence[Picture], embeddings: Tensor, reasons: dict[int, str]) -> Gallery:
    """Return the gallery of the readable pictures. `reasons` maps the index of each unreadable picture to the reason."""
    unreadable = {pictures[place].key: reasons[place] for place in sorted(reasons)}
    if len(reasons) == len(pictures):
        key, reason = next(iter(unreadable.items()))
        raise ValueError(f"none of the {len(pictures)} pictures can be read, first {key}: {reason}")
    if not reasons:
        return Gallery(list(pictures), embeddings, {})
    kept = [place for place in range(len(pictures)) if place not in reasons]
    for to, start in enumerate(kept):  # in place, since a second copy may not fit into memory
        if to != start:
            embeddings[to] = embeddings[start]
    return Gallery([pictures[place] for place in kept], embeddings[: len(kept)], unreadable)


@dataclass(frozen=True)
class Ranked:
    """Picture in a ranking."""

    path: str
    score: float
    """Position on the axis; 0 is the mean picture."""
    rank: int
    """1 for the highest score."""
    percentile: float
    """Percentage of the other pictures with a lower score."""


def in_order(gallery: Gallery, scores: Tensor) -> Iterator[Ranked]:
    """Yield the pictures by descending score (N,). Equal scores keep the gallery's order and have the same percentile."""
    lower = torch.searchsorted(scores.sort().values, scores).tolist()
    others = max(1, len(scores) - 1)
    for rank, index in enumerate(scores.argsort(descending=True, stable=True).tolist(), start=1):
        yield Ranked(gallery.pictures[index].key, float(scores[index]), rank, 100 * lower[index] / others)
