"""A picture of how a model ranks images: a row of them from least to most of an attribute."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

TILE = 112
GAP = 6
TITLE_SIZE = 15
LABEL_SIZE = 13


def spread_over_order(scores: Tensor, count: int = 12) -> Tensor:
    """Indices of at most `count` items spread evenly over the ascending order of their scores (N,)."""
    order = scores.argsort(stable=True)
    places = torch.linspace(0, len(order) - 1, min(count, len(order)), device=scores.device).round().long()
    return order[places]


def ranked_strip(pictures: Sequence[Image.Image | None], labels: Sequence[str], title: str) -> Image.Image:
    """Lay pictures out left to right, each with its label below it, under a title.

    Args:
        pictures: At least one; None leaves its tile empty.
        labels: One a picture.
        title: Written above.
    """
    top, bottom = TITLE_SIZE + 3 * GAP, LABEL_SIZE + 2 * GAP
    title_font, label_font = ImageFont.load_default(TITLE_SIZE), ImageFont.load_default(LABEL_SIZE)
    width = max(GAP + len(pictures) * (TILE + GAP), 2 * GAP + round(title_font.getlength(title)))
    strip = Image.new("RGB", (width, top + TILE + bottom), "white")
    draw = ImageDraw.Draw(strip)
    draw.text((GAP, GAP), title, fill="black", font=title_font)
    for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left = GAP + place * (TILE + GAP)
        if picture is not None:
            scale = TILE / max(picture.size)
            tile = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
            strip.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        centre = left + (TILE - label_font.getlength(label)) / 2
        draw.text((centre, top + TILE + GAP // 2), label, fill="black", font=label_font)
    return strip
