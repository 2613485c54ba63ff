"""Sample pairs as one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from data_prep.images import encode_image
from pcclip.atomic import atomic_text
from pcclip.data.pictures import UnreadableImageError

THUMBNAIL = 448  # pixels; shown at half of it on the usual dense screens
MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
ENVIRONMENT = Environment(loader=PackageLoader("data_prep", ""), autoescape=True, undefined=StrictUndefined)


@dataclass(frozen=True)
class SampleImage:
    """An image to show: its id, its captions and its file's bytes, None where there is no file."""

    id: str
    captions: list[str]
    payload: bytes | None

    @property
    def source(self) -> str | None:
        """Data URI of a thumbnail, or None if the image cannot be read."""
        if self.payload is None:
            return None
        try:
            stored = encode_image(self.payload, self.id, THUMBNAIL, quality=85)
        except UnreadableImageError:
            return None
        return f"data:{MEDIA_TYPES[stored.extension]};base64,{base64.b64encode(stored.payload).decode()}"


@dataclass(frozen=True)
class SamplePair:
    """A pair to show."""

    where: str
    """Where it comes from."""
    first: SampleImage
    second: SampleImage
    text: str
    """First against second."""
    reverse_text: str | None
    """Second against first, if there is one."""
    reason: str | None = None
    """Why it was rejected, if it was."""


def write_page(file: Path, source: str, pairs: Sequence[SamplePair]) -> None:
    """Write the page of some pairs; `source` says where they come from."""
    with atomic_text(file) as stream:
        stream.write(ENVIRONMENT.get_template("pairs.html.jinja").render(source=source, pairs=pairs))
