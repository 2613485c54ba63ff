"""Source `parquet`: Parquet files and Hugging Face datasets, with paths of images or the images themselves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.sources.source import Candidate, LeftOut, SourceOptions, column, described, input_tables
from pcclip.data.picture_files import PICTURE_ENDINGS
from pcclip.data.table_rows import first_row, table_rows

PNG = b"\x89PNG"


def candidates(options: SourceOptions, left_out: LeftOut) -> Iterator[Candidate]:
    """Yield the rows in order. Images in the table are numbered, and named by their numbers unless there is a column `id`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A column is missing, or a file is damaged.
    """
    folder = Path(str(options.images)).absolute()
    rows = ((file, row) for file in input_tables(options) for row in table_rows(file))
    for number, (file, row) in enumerate(rows):
        image = column(file, row, options.image_column)
        path, payload = image.get("path") if isinstance(image, dict) else image, _content(image)
        if payload is not None:
            ending = Path(path).suffix.lower() if isinstance(path, str) else ""
            if ending not in PICTURE_ENDINGS:  # `datasets` stores images of PIL as PNG, without a name
                ending = ".png" if payload.startswith(PNG) else ".jpg"
            path = f"{number:08d}{ending}"
        if not isinstance(path, str) or not path:
            left_out.add("missing", f"{file}, row {number}: no image")
            continue
        candidate = described(options, file, {"id": path, **row})
        candidate.path, candidate.payload = folder / path, payload
        yield candidate


def holds_images(options: SourceOptions) -> bool:
    """Return whether the images themselves are in the table, by its first row."""
    return _content(first_row(input_tables(options)[0]).get(options.image_column)) is not None


def _content(image: Any) -> bytes | None:
    """Return the bytes of an image, which the package `datasets` stores as `{"bytes", "path"}`, or None for a path."""
    content = image.get("bytes") if isinstance(image, dict) else image
    return content if isinstance(content, bytes) else None
