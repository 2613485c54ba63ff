"""Sources with one file per image: COCO, CUB, a folder, JSON Lines, and parts of a `captions.jsonl`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.files import CAPTION_KEYS, clean, image_path, read_jsonl
from data_prep.images import Checked
from data_prep.sources.source import (
    REPLACED,
    Candidate,
    LeftOut,
    SourceOptions,
    described,
    image_folder,
    input_file,
    input_tables,
    walk,
)
from pcclip.data.picture_files import PICTURE_ENDINGS
from pcclip.paths import existing_file, existing_folder

IGNORED = (".txt", ".json", ".jsonl")  # in a folder: captions, and outputs of the steps
CHECKED_KEYS = {**CAPTION_KEYS, "width": int, "height": int, "sha256": str}


def coco_candidates(options: SourceOptions, left_out: LeftOut) -> Iterator[Candidate]:
    """Yield images in the order of the file. The file is read into memory: about 0.5 GB for train2017.

    Raises:
        ValueError: The file is not JSON, does not have COCO's layout, or has no captions.
    """
    images, annotations = _read_coco(input_file(options))
    captions: dict[int | str, list[str]] = {}
    for annotation in annotations:
        found = annotation if isinstance(annotation, dict) else {"id": annotation}
        texts = clean([found.get("caption")])
        if texts and isinstance(found.get("image_id"), int | str):
            captions.setdefault(found["image_id"], []).extend(texts)
        else:
            left_out.add("bad_annotation", f"annotation {found.get('id')}")
    if annotations and not captions:
        raise ValueError(
            f"{options.input}: its annotations have no captions; use COCO's captions_*.json, not instances_*.json"
        )
    folder = image_folder(options)
    for image in images:
        number, name = (image.get("id"), image.get("file_name")) if isinstance(image, dict) else (None, None)
        if not isinstance(number, int | str) or not isinstance(name, str) or not name:
            left_out.add("bad_image_record", f"image {number}: needs `id` and `file_name`")
            continue
        yield Candidate(str(number), folder / name, captions.pop(number, []))
    for number, texts in captions.items():
        left_out.add("captions_of_unknown_image", f"image {number}: {len(texts)} captions")


def _read_coco(file: Path) -> tuple[list[Any], list[Any]]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not valid JSON ({error}); download the file again") from error
    images, annotations = (content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations"))
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise ValueError(f"{file}: expected COCO's layout, a JSON object with the lists `images` and `annotations`")
    return images, annotations


def cub_candidates(options: SourceOptions, left_out: LeftOut) -> Iterator[Candidate]:
    """Yield images in the order of images.txt, with the ids in it and the names of their classes.

    Raises:
        FileNotFoundError: `input` or `texts` is not the right folder.
    """
    root = existing_folder(options.input, "CUB_200_2011 (`input` of the step captions)").absolute()
    remedy = "set captions.texts to the folder text_c10 of Reed et al."
    texts = existing_folder(options.texts or root / "text_c10", "captions", remedy)
    listed = existing_file(root / "images.txt", "list of images", "`input` must be the folder CUB_200_2011")
    lines = listed.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        name, _, file = line.strip().partition(" ")
        if not Path(file).name or REPLACED in line:
            left_out.add("bad_row", f"images.txt, line {number}: {line!r}")
            continue
        captions = read_lines((texts / file).with_suffix(".txt")) or []
        yield Candidate(name, root / "images" / file, captions, {"class": class_name(Path(file).parent.name)})


def class_name(folder: str) -> str:
    """Return the class name of a folder: "Black footed Albatross" for `001.Black_footed_Albatross`."""
    return folder.split(".", 1)[-1].replace("_", " ")


def folder_candidates(options: SourceOptions, left_out: LeftOut) -> Iterator[Candidate]:
    """Yield images sorted within each folder. The id of an image is its relative path.

    Raises:
        FileNotFoundError, NotADirectoryError: `input` is not a folder.
    """
    folder = existing_folder(options.input, "`input` of source `folder` of the step captions").absolute()
    for name in walk(folder, left_out):
        path = folder / name
        if path.suffix.lower() in PICTURE_ENDINGS:
            text = path.with_suffix(".txt")
            captions = read_lines(text)
            if captions is None and text.is_file():
                left_out.add("not_utf8", text.relative_to(folder).as_posix())
            else:
                yield Candidate(name, path, captions or [])
        elif path.suffix == ".txt" and not any(
            path.with_suffix(found).exists() for ending in PICTURE_ENDINGS for found in (ending, ending.upper())
        ):
            left_out.add("missing", f"{name}: no image of this name next to it")
        elif path.suffix not in IGNORED and not path.name.startswith("."):
            left_out.add("not_an_image", name)


def read_lines(file: Path) -> list[str] | None:
    """Return the captions in a text file, one per line; None if it is missing, unreadable or not UTF-8."""
    if not file.is_file():
        return None
    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None
    return None if REPLACED in text else clean(text.splitlines())


def jsonl_candidates(options: SourceOptions, left_out: LeftOut) -> Iterator[Candidate]:
    """Yield images in the order of the file, with all other fields of their rows."""
    file = input_file(options)
    folder = file.parent.absolute() if options.images is None else image_folder(options)
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                path = row.get("file", row.get(options.image_column)) if isinstance(row, dict) else None
                if not isinstance(path, str) or not path:
                    raise ValueError(
                        f"`{options.image_column}` or `file` must be the path of the image, found {path!r}"
                    )
                candidate = described(options, str(file), {"id": path, **row})
            except (ValueError, RecursionError) as error:
                left_out.add("bad_row", f"line {number}: {error}")
                continue
            listed = row.get("captions", row.get(options.caption_column))
            if isinstance(listed, list) and (bad := len(listed) - len(candidate.captions)):
                left_out.add("bad_caption", f"line {number}: {bad} of {len(listed)} captions are empty or not a text")
            candidate.path = folder / path
            yield candidate


def parts_candidates(options: SourceOptions, left_out: LeftOut) -> Iterator[Candidate]:
    """Yield images in the order of the file names."""
    for file in input_tables(options):
        for _, row in read_jsonl(file, CHECKED_KEYS):
            fields = {key: value for key, value in row.items() if key not in CHECKED_KEYS}
            checked = Checked(row["width"], row["height"], row["sha256"])
            yield Candidate(row["id"], image_path(file, row).absolute(), row["captions"], fields, checked=checked)
