"""Karpathy's caption files of Flickr8k, Flickr30k and COCO (`dataset_flickr8k.json`, ...)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pcclip.data.labelled import ImageFile

REMEDY = "download caption_datasets.zip (Karpathy's splits, cs.stanford.edu/people/karpathy/deepimagesent)"


def read_karpathy(file: str | Path, images: str | Path, split: str = "test") -> tuple[list[ImageFile], list[list[str]]]:
    """Read the images of a split and the captions of each.

    Args:
        file: `{"images": [{"filename", "filepath"?, "split", "sentences": [{"raw"}]}]}`; COCO's rows have `filepath`, the
            folder within `images`.
        images: The folder of the images.
        split: `train`, `restval`, `val` or `test`.

    Raises:
        FileNotFoundError: The file or images are missing.
        ValueError: A file that is not of that layout, or no image of that split.
    """
    file, folder = Path(file), Path(images)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: captions not found; {REMEDY}, and give one of its files")
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["images"]
        chosen = [row for row in rows if row["split"] == split]
        found = [_row(row, folder) for row in chosen]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: not in Karpathy's layout ({type(error).__name__}: {error}); {REMEDY}") from error
    if not found:
        splits = sorted({row["split"] for row in rows})
        raise ValueError(f'{file}: no image of split "{split}"; it has {", ".join(splits)}')
    if missing := [image.path for image, _ in found if not Path(image.path).is_file()]:
        raise FileNotFoundError(
            f"{folder}: {len(missing)} of {len(found)} images of {file.name} are missing: {missing[:3]}; download the "
            "dataset's pictures and unpack them there as a whole (COCO: train2014 and val2014 in one folder)"
        )
    return [image for image, _ in found], [captions for _, captions in found]


def _row(row: dict[str, Any], folder: Path) -> tuple[ImageFile, list[str]]:
    name = str(Path(row.get("filepath", "")) / row["filename"])
    return ImageFile(str(folder / name), name), [str(sentence["raw"]).strip() for sentence in row["sentences"]]
