"""The JSON member of a group: its content, and all errors that it may have."""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

from pcclip.data.damage import DamagedGroupError

HARMLESS = ("duplicate id", "empty caption")  # problems that `pcclip-data verify` reports and training ignores


class ImageRecord(TypedDict):
    """One image of a group: its id in the source dataset and its captions (possibly none)."""

    id: str
    captions: list[str]


class PairRecord(TypedDict):
    """One ordered pair: indices into the group's images, and the text that describes first against second."""

    first: int
    second: int
    text: str


class GroupRecord(TypedDict):
    """The JSON member of a group sample."""

    images: list[ImageRecord]
    pairs: list[PairRecord]


def parse_group(payload: bytes, where: str) -> GroupRecord:
    """Parse and check a group's JSON member.

    Args:
        payload: The member's bytes.
        where: Shard and key, for messages.

    Raises:
        DamagedGroupError: Not JSON.
        ValueError: A missing key, a pair outside the group or of an image with itself, or an empty text. The shard was made
            wrongly, and skipping the group would hide this.
    """
    try:
        record = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise DamagedGroupError("broken_record", where, error) from error
    for kind, what in record_problems(record):
        if kind not in HARMLESS:
            raise ValueError(f"{where}: {what}; make the shard again")
    return {"images": record["images"], "pairs": record["pairs"]}


def record_problems(record: Any) -> Iterator[tuple[str, str]]:
    """Yield the kind and the description of each problem of a group record."""
    fields = record if isinstance(record, dict) else {}
    images, pairs = fields.get("images"), fields.get("pairs")
    if not (isinstance(images, list) and isinstance(pairs, list) and images):
        yield "group record", "not a group record: `images` must be a list that is not empty, and `pairs` a list"
        return
    ids: set[str] = set()
    for index, image in enumerate(images):
        captions = image.get("captions") if isinstance(image, dict) else None
        if not (isinstance(captions, list) and all(isinstance(text, str) for text in [*captions, image.get("id")])):
            yield "group record", f"image {index} needs an `id` and a list `captions` of texts"
            continue
        if image["id"] in ids:
            yield "duplicate id", f"image {index} has the id of another, {image['id']!r}"
        ids.add(image["id"])
        if not all(map(str.strip, captions)):
            yield "empty caption", f"image {index} ({image['id']}) has an empty caption"
    for row, pair in enumerate(pairs):
        entry = pair if isinstance(pair, dict) else {}
        first, second, text = entry.get("first"), entry.get("second"), entry.get("text")
        if not (type(first) is int and type(second) is int and isinstance(text, str)):
            yield "group record", f"pair {row} needs whole numbers `first` and `second` and a `text`"
            continue
        if not (0 <= first < len(images) and 0 <= second < len(images)):
            yield "pair out of range", f"pair {row} is of images {first} and {second}, but there are {len(images)}"
        if first == second:
            yield "pair with itself", f"pair {row} compares image {first} with itself"
        if not text.strip():
            yield "empty text", f"pair {row} has an empty text, which `pcclip-data screen` would reject"


def both_ways(pairs: Sequence[PairRecord]) -> Iterator[tuple[PairRecord, PairRecord]]:
    """Yield each pair that exists in both directions, together with its reverse, in the order of `pairs`."""
    waiting: dict[tuple[int, int], deque[PairRecord]] = {}
    for pair in pairs:
        first, second = pair["first"], pair["second"]
        if reverses := waiting.get((second, first)):
            yield reverses.popleft(), pair
        else:
            waiting.setdefault((first, second), deque()).append(pair)
