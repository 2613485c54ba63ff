"""Sample pairs for the report: pictures, difference texts and the models' scores."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pcclip.atomic import atomic_text


@dataclass
class SamplePair:
    """A judged pair with its scores by one model."""

    first: Image.Image | None
    """Thumbnail. None if the picture is damaged or missing, as in embedded shards."""
    second: Image.Image | None
    text: str
    """Describes first against second."""
    reverse: str
    """Describes second against first."""
    score: float
    """Cosine of the difference with `text`."""
    reverse_score: float
    """Cosine of the difference with `reverse`."""


def samples_file(results: str | Path) -> Path:
    """Return the path of the samples, next to a `results.json`."""
    return Path(results).with_suffix(".samples.json")


def write_samples(
    file: Path, samples: Sequence[SamplePair], scores: Mapping[str, Sequence[tuple[float, float]]]
) -> None:
    """Write samples with pictures as PNG in base64.

    Args:
        file: JSON file.
        samples: The pairs.
        scores: For each model, (`score`, `reverse_score`) of each pair.
    """
    rows = [
        {
            "first": _encoded(sample.first),
            "second": _encoded(sample.second),
            "text": sample.text,
            "reverse": sample.reverse,
            "scores": {model: list(found[place]) for model, found in scores.items()},
        }
        for place, sample in enumerate(samples)
    ]
    with atomic_text(file) as stream:
        json.dump(rows, stream, ensure_ascii=False, indent=1)


def read_samples(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of samples. Without a file, return no rows.

    Raises:
        ValueError: It is not JSON.
    """
    if not file.is_file():
        return []
    try:
        rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not valid JSON ({error}); remove it, or run the experiment again") from error
    return rows


def _encoded(picture: Image.Image | None) -> str | None:
    if picture is None:
        return None
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
