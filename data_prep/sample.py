"""A pair to be looked at."""

from __future__ import annotations

from dataclasses import dataclass

from data_prep.images import StoredImage, encode_image
from pcclip.data.pictures import UnreadableImageError


@dataclass(frozen=True)
class SampleImage:
    """An image to be shown: its id, its captions and its file's bytes, None where there is no file."""

    id: str
    captions: list[str]
    payload: bytes | None

    def thumbnail(self, size: int) -> StoredImage | None:
        """The image with a longer side of at most `size` pixels, or None where it cannot be read."""
        if self.payload is None:
            return None
        try:
            return encode_image(self.payload, self.id, size, quality=85)
        except UnreadableImageError:
            return None


@dataclass(frozen=True)
class SamplePair:
    """A pair to be shown.

    Attributes:
        where: Where it comes from.
        first: The first image.
        second: The second image.
        text: First against second.
        reverse_text: Second against first, if there is one.
        reason: Why it was rejected, if it was.
    """

    where: str
    first: SampleImage
    second: SampleImage
    text: str
    reverse_text: str | None
    reason: str | None = None
