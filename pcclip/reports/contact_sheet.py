"""Contact sheet: one picture with images in rows, each with its label."""

import textwrap
from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw, ImageFont

TILE = 112
GAP = 6
HEADING_SIZE = 26
TEXT_SIZE = 13  # pixels; also the height of a line
LINES = 4  # below a picture
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` places, spread evenly over `count`."""
    places: list[int] = torch.linspace(0, count - 1, min(most, count)).round().long().tolist()
    return places


def contact_sheet(
    pictures: Sequence[Image.Image | None],
    labels: Sequence[str],
    title: str,
    columns: int | None = None,
    text_size: int = TEXT_SIZE,
) -> Image.Image:
    """Lay pictures out in rows, left to right, each with its label below it, under a title.

    Args:
        pictures: At least one picture. None leaves its tile empty.
        labels: One label for each picture, wrapped into at most `LINES` lines and then truncated.
        title: Title above the pictures.
        columns: Number of pictures in a row. Default: all in one row.
        text_size: Size of the labels in pixels. The title is a little larger.
    """
    columns = min(columns or len(pictures), len(pictures))
    rows = -(-len(pictures) // columns)
    title_size = text_size + 2
    title_font, label_font = ImageFont.load_default(title_size), ImageFont.load_default(text_size)
    below = [_lines(label, label_font) for label in labels]
    top, row_height = title_size + 3 * GAP, TILE + max(map(len, below)) * text_size + 2 * GAP
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
            draw.text((centre, upper + TILE + GAP // 2 + number * text_size), line, fill="black", font=label_font)
    return sheet


def stacked(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Put pictures one below the other, each under its name."""
    font = ImageFont.load_default(HEADING_SIZE)
    width = max(picture.width for picture in pictures.values())
    height = sum(picture.height + HEADING_SIZE + 2 * GAP for picture in pictures.values())
    sheet = Image.new("RGB", (width, height), "white")
    upper = 0
    for name, picture in pictures.items():
        ImageDraw.Draw(sheet).text((GAP, upper + GAP), name, fill="black", font=font)
        sheet.paste(picture, (0, upper + HEADING_SIZE + 2 * GAP))
        upper += picture.height + HEADING_SIZE + 2 * GAP
    return sheet


def _lines(label: str, font: Font) -> list[str]:
    """Wrap a label to the width of a tile, between words if possible."""
    for most in range(len(label), 1, -1):
        lines = textwrap.wrap(label, most, max_lines=LINES, placeholder="…")
        if all(font.getlength(line) <= TILE for line in lines):
            return lines
    return [label]
