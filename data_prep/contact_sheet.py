"""Sample pairs as one PNG, for places where no browser is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from data_prep.sample import SampleImage, SamplePair
from pcclip.atomic import atomic_path
from pcclip.data.picture_files import save_png
from pcclip.data.pictures import decode

PICTURE = 240  # pixels
GAP = 20
WIDTH = 2 * PICTURE + GAP
COLUMNS = 3
INK, SOFT, FIRST, SECOND, REASON = "#1d1d1b", "#62625c", "#a34a08", "#0b62a3", "#b3261e"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def write_sheet(file: Path, source: str, pairs: Sequence[SamplePair]) -> None:
    """Write the sheet.

    Args:
        file: The `.png` to write.
        source: Where the pairs come from, for the heading.
        pairs: What to show.
    """
    cards = [_card(pair) for pair in pairs]
    columns = min(COLUMNS, len(cards))
    rows = [cards[start : start + columns] for start in range(0, len(cards), columns)]
    heights = [max(card.height for card in row) for row in rows]
    heading = 40
    sheet = Image.new(
        "RGB",
        (GAP + columns * (WIDTH + 3 * GAP), GAP + heading + sum(heights) + len(rows) * 2 * GAP),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), f"{len(pairs)} pairs of {source}", INK, _font(20))
    top = GAP + heading
    for row, height in zip(rows, heights, strict=True):
        draw.line((GAP, top, sheet.width - GAP, top), "#deded8")
        for column, card in enumerate(row):
            sheet.paste(card, (2 * GAP + column * (WIDTH + 3 * GAP), top + GAP))
        top += height + 2 * GAP
    with atomic_path(file) as temporary:
        save_png(sheet, temporary)


def _card(pair: SamplePair) -> Image.Image:
    """A pair: its two pictures with their captions, and below them its texts."""
    columns = [_column(pair.first, "first", FIRST), _column(pair.second, "second", SECOND)]
    below = [(pair.where, SOFT, 13)]
    if pair.reason:
        below.append((pair.reason, REASON, 15))
    below += [("first against second:", SOFT, 13), (pair.text, INK, 16)]
    below += [("reversed, the second picture is called first:", SOFT, 13), (pair.reverse_text or "no text", INK, 16)]
    text = _paragraphs(below, WIDTH)
    height = max(column.height for column in columns)
    card = Image.new("RGB", (WIDTH, height + GAP // 2 + text.height), "white")
    for place, column in enumerate(columns):
        card.paste(column, (place * (PICTURE + GAP), 0))
    card.paste(text, (0, height + GAP // 2))
    return card


def _column(image: SampleImage, role: str, colour: str) -> Image.Image:
    text = _paragraphs(
        [(f"{role}  {image.id}", colour, 15), *((f"- {caption}", INK, 13) for caption in image.captions)], PICTURE
    )
    column = Image.new("RGB", (PICTURE, PICTURE + GAP // 2 + text.height), "white")
    frame = Image.new("RGB", (PICTURE, PICTURE), "#f4f4f1")
    stored = image.thumbnail(PICTURE)
    if stored is None:
        ImageDraw.Draw(frame).text((PICTURE // 2, PICTURE // 2), "cannot be read", SOFT, _font(15), anchor="mm")
    else:
        picture = ImageOps.contain(decode(stored.payload, image.id), frame.size)
        frame.paste(picture, ((PICTURE - picture.width) // 2, (PICTURE - picture.height) // 2))
    column.paste(frame)
    column.paste(text, (0, PICTURE + GAP // 2))
    return column


def _paragraphs(paragraphs: Sequence[tuple[str, str, int]], width: int) -> Image.Image:
    """Paragraphs of (text, colour, size), wrapped to a width in pixels."""
    lines = []
    for text, colour, size in paragraphs:
        wrapped = wrap(text, _font(size), width)
        spaces = [round(size * 1.35)] * len(wrapped)
        spaces[-1:] = [round(size * 1.35) + 4 for _ in spaces[-1:]]  # paragraphs stand a little apart
        lines += [(line, colour, size, space) for line, space in zip(wrapped, spaces, strict=True)]
    image = Image.new("RGB", (width, sum(space for *_, space in lines)), "white")
    draw = ImageDraw.Draw(image)
    top = 0
    for line, colour, size, space in lines:
        draw.text((0, top), line, colour, _font(size))
        top += space
    return image


def wrap(text: str, font: Font, width: int) -> list[str]:
    """Break a text into lines of at most `width` pixels, between words where that is possible."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while font.getlength(word) > width:
            fitting = next(
                end for end in range(len(word) - 1, 0, -1) if font.getlength(word[:end]) <= width or end == 1
            )
            lines.append(word[:fitting])
            word = word[fitting:]
        line = word
    return [*lines, line] if line else lines


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
