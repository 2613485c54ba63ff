"""Source `coco`: COCO's captions annotation file and its image folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.files import clean
from data_prep.sources.source import (
    Candidate,
    Losses,
    SourceOptions,
    folder_hash,
    image_folder,
    input_file,
)


def inputs(options: SourceOptions) -> dict[str, str | Path]:
    """Return the annotation file, and a hash over names, sizes and times of the images."""
    return {"input": input_file(options), "images": folder_hash(image_folder(options))}


def candidates(options: SourceOptions, losses: Losses) -> Iterator[Candidate]:
    """Yield images in the file's order. The file is held in memory whole: about 0.5 GB for train2017.

    Raises:
        ValueError: Not JSON, not COCO's layout, or annotations that hold no captions.
    """
    images, annotations = _read(input_file(options))
    captions: dict[int | str, list[str]] = {}
    for annotation in annotations:
        found = annotation if isinstance(annotation, dict) else {"id": annotation}
        texts = clean([found.get("caption")])
        if texts and isinstance(found.get("image_id"), int | str):
            captions.setdefault(found["image_id"], []).extend(texts)
        else:
            losses.add("bad_annotation", f"annotation {found.get('id')}")
    if annotations and not captions:
        raise ValueError(
            f"{options.input}: its annotations hold no captions; give COCO's captions_*.json, not instances_*.json"
        )
    folder = image_folder(options)
    for image in images:
        number, name = (image.get("id"), image.get("file_name")) if isinstance(image, dict) else (None, None)
        if not isinstance(number, int | str) or not isinstance(name, str) or not name:
            losses.add("bad_image_record", f"image {number}: needs `id` and `file_name`")
            continue
        yield Candidate(str(number), folder / name, captions.pop(number, []))
    for number, texts in captions.items():
        losses.add("captions_of_unknown_image", f"image {number}: {len(texts)} captions")


def _read(file: Path) -> tuple[list[Any], list[Any]]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not valid JSON ({error}); fetch the file again") from error
    images, annotations = (content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations"))
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise ValueError(f"{file}: expected COCO's layout, a JSON object with the lists `images` and `annotations`")
    return images, annotations
