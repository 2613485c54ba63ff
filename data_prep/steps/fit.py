"""An optional check of `screen`: a CLIP model that sees the pictures must prefer each text to the reversed one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch

from data_prep.files import CAPTION_KEYS, Row
from data_prep.line_index import LineIndex
from data_prep.steps.similar_by_tower import embed_images
from pcclip.model.loading import load_clip

ROWS = 960  # at once: whole groups, mostly, so that few images are embedded twice


def misfits(
    rows: Iterable[tuple[int, Row]], captions: Path, name: str, pretrained: str | None
) -> Iterator[tuple[int, str, str]]:
    """Yield (line, reason, detail) of the rows whose text fits the difference of their images no better than the reverse.

    Args:
        rows: (Line, row) of screened differences, whose images `captions` has.
        captions: The `captions.jsonl`, which says where the images lie.
        name: The model, as `load_clip` takes it.
        pretrained: Its weights, where the name does not carry them.

    Raises:
        FileNotFoundError: A file of the model is missing.
        ValueError: An image is missing or cannot be read, or an unknown model.
    """
    model = load_clip(name, pretrained).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    stream = iter(rows)
    with LineIndex(captions, CAPTION_KEYS, "id", unique=True) as index, torch.inference_mode():
        while batch := list(islice(stream, ROWS)):
            ids = dict.fromkeys(row[side] for _, row in batch for side in ("first", "second"))
            places = {image: place for place, image in enumerate(ids)}
            found = [row for row in map(index.get, places) if row is not None]
            images = torch.from_numpy(embed_images(model, captions, found)).to(model.device)
            first, second = (images[[places[row[side]] for _, row in batch]] for side in ("first", "second"))
            difference = model.difference(first, second)
            forward, backward = (
                (difference * model.encode_texts([row[key] for _, row in batch])).sum(-1).tolist()
                for key in ("text", "reverse_text")
            )
            for (line, _), fit, reversed_fit in zip(batch, forward, backward, strict=True):
                if not fit > reversed_fit:
                    yield line, "misfit", f"cosine {fit:.3f} with its images' difference, reversed {reversed_fit:.3f}"
