"""A picture of how a model orders images: a sheet of them in rows, each with its label."""

import textwrap
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

TILE = 112
GAP = 6
TITLE_SIZE = 15
LABEL_SIZE = LINE_HEIGHT = 13
LINES = 4  # below a picture
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def spread_over_order(scores: Tensor, count: int = 12) -> Tensor:
    """Indices of at most `count` items spread evenly over the ascending order of their scores (N,)."""
    order = scores.argsort(stable=True)
    places = torch.linspace(0, len(order) - 1, min(count, len(order)), device=scores.device).round().long()
    return order[places]


def contact_sheet(
    pictures: Sequence[Image.Image | None], labels: Sequence[str], title: str, columns: int | None = None
) -> Image.Image:
    """Lay pictures out in rows, left to right, each with its label below it, under a title.

    Args:
        pictures: At least one; None leaves its tile empty.
        labels: One a picture; broken into at most `LINES` lines, and cut at the end if that is not enough.
        title: Written above.
        columns: Pictures a row; all in one row by default.
    """
    columns = min(columns or len(pictures), len(pictures))
    rows = -(-len(pictures) // columns)
    title_font, label_font = ImageFont.load_default(TITLE_SIZE), ImageFont.load_default(LABEL_SIZE)
    below = [_lines(label, label_font) for label in labels]
    top, row_height = TITLE_SIZE + 3 * GAP, TILE + max(map(len, below)) * LINE_HEIGHT + 2 * GAP
    width = max(GAP + columns * (TILE + GAP), 2 * GAP + round(title_font.getlength(title)))
    sheet = Image.new("RGB", (width, top + rows * row_height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, fill="black", font=title_font)
    for place, (picture, lines) in enumerate(zip(pictures, below, strict=True)):
        row, column = divmod(place, columns)
        left, upper = GAP + column * (TILE + GAP), top + row * row_height
        if picture is not None:
            scale = TILE / max(picture.size)
            tile = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
            sheet.paste(tile, (left + (TILE - tile.width) // 2, upper + (TILE - tile.height) // 2))
        for number, line in enumerate(lines):
            centre = left + (TILE - label_font.getlength(line)) / 2
            draw.text((centre, upper + TILE + GAP // 2 + number * LINE_HEIGHT), line, fill="black", font=label_font)
    return sheet


def _lines(label: str, font: Font) -> list[str]:
    """Break a label into lines no wider than a tile, between words where that is possible."""
    for most in range(len(label), 1, -1):
        lines = textwrap.wrap(label, most, max_lines=LINES, placeholder="…")
        if all(font.getlength(line) <= TILE for line in lines):
            return lines
    return [label]
