"""Step `captions`: bring a captioned image set into one `captions.jsonl` whose images all decode."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from data_prep.files import Row, clean, image_reference, manifest_path, write_jsonl
from data_prep.lock import locks_output, output_lock
from data_prep.manifest import Manifest
from data_prep.parts import Part
from data_prep.progress import progress
from data_prep.sources.check import check_all
from data_prep.sources.source import Candidates, Losses, Options, Source
from pcclip.atomic import atomic_folder

__all__ = ["Options", "run"]

STEP_VERSION = 2
# Modules are imported when they are used: webdataset takes seconds.
SOURCES = {
    "coco": "data_prep.sources.coco",
    "csv": "data_prep.sources.table",
    "jsonl": "data_prep.sources.jsonl",
    "folder": "data_prep.sources.folder",
    "shards": "data_prep.sources.shards",
    "cub": "data_prep.sources.cub",
    "parts": "data_prep.sources.parts",
}
DUPLICATES = ("drop", "keep")


@locks_output
def run(options: Options) -> None:
    """Read `input`, write `output`, whose rows also say each image's upright `width` and `height` and its `sha256`.

    Bad rows, images that are missing or do not decode, and repeated ids are left out, counted and listed in the manifest.

    Raises:
        FileNotFoundError: `input`, `images`, `texts` or `class_names` is missing.
        ValueError: An unknown source or setting, an input that is wholly broken (not JSON, without the column, ...), or
            not one usable image.
    """
    source, output = _checked_source(options), Path(options.output)
    manifest = Manifest(
        "captions",
        STEP_VERSION,
        source.inputs(options),
        {
            name: getattr(options, name)
            for name in ("source", "image_column", "caption_column", "template", "duplicates", "part")
            if name != "part" or options.part
        },
    )
    unpacked = Path(str(options.images)) if options.source == "shards" else None
    if manifest.matches(output) and (unpacked is None or unpacked.is_dir()):
        print(f"{output} is up to date")
        return
    if unpacked is not None and unpacked.exists() and not manifest_path(output).is_file() and any(unpacked.iterdir()):
        raise ValueError(
            f"{unpacked}: `images` is where the shards are unpacked, and this folder already holds something; "
            "give a new one, or delete it"
        )
    losses = Losses()
    with ExitStack() as stack:
        folder = None
        if unpacked is not None:
            stack.enter_context(output_lock(unpacked))
            folder = stack.enter_context(atomic_folder(unpacked))
        images = write_jsonl(output, _rows(source.candidates(options, losses), output, options, losses, folder))
        summary = "".join(f", {count} {reason}" for reason, count in losses.counts.items())
        if not images:
            output.unlink()
            first = next((f"; first: {names[0]}" for names in losses.names().values()), "")
            raise ValueError(
                f"{options.input}: not one usable captioned image ({summary.removeprefix(', ') or 'it is empty'}){first}"
            )
    manifest.write(output, {"images": images, **losses.counts}, losses.names())
    print(f"{output}: {images} images{summary}")


def _checked_source(options: Options) -> Source:
    """The module of the source, once the options make sense."""
    if options.source not in SOURCES:
        raise ValueError(f"captions.source: unknown source {options.source!r}; choose one of {', '.join(SOURCES)}")
    if options.duplicates not in DUPLICATES:
        raise ValueError(f"captions.duplicates: {options.duplicates!r}; choose one of {', '.join(DUPLICATES)}")
    if options.workers < 1:
        raise ValueError(f"captions.workers must be at least 1, found {options.workers}")
    if options.source != "parts" and not Path(options.input).exists():
        raise FileNotFoundError(f"{options.input}: `input` of the captions step not found")
    if options.class_names is not None and not Path(options.class_names).is_file():
        raise FileNotFoundError(f"{options.class_names}: `class_names` of the captions step not found")
    Part.parse(options.part, "captions.part")
    if options.template.count("{}") != 1:
        raise ValueError(f"captions.template: {options.template!r} must hold {{}} once, for the class's name")
    return cast(Source, importlib.import_module(SOURCES[options.source]))


def _rows(
    candidates: Candidates, output: Path, options: Options, losses: Losses, unpacked: Path | None
) -> Iterator[Row]:
    """Rows of the candidates that have a caption and an image that decodes."""
    ids: set[int] = set()  # hashes, which take far less memory than what they stand for
    contents: set[int] = set()
    part = Part.parse(options.part, "captions.part")
    found, total = candidates.found, candidates.total
    if part.count > 1 and options.source != "shards":  # whose shards are shared out instead
        found, total = (candidate for candidate in found if part.holds(candidate.id)), None
    checked = check_all(found, 1 if options.source == "parts" else options.workers)
    for candidate, image in progress(checked, desc="captions", unit="image", total=total):
        captions = clean(candidate.captions)
        if not captions:
            losses.add("without_caption", candidate.id)
            continue
        if image.reason:
            losses.add(image.reason, f"{candidate.id}: {image.message}")
            continue
        if hash(candidate.id) in ids:
            losses.add("duplicate_id", candidate.id)
            continue
        if (content := int(image.sha256[:16], base=16)) in contents:
            losses.add(
                "duplicate_kept" if options.duplicates == "keep" else "duplicate", f"{candidate.id}: {image.sha256}"
            )
            if options.duplicates == "drop":
                continue
        row = {
            "id": candidate.id,
            "file": image_reference(candidate.path, output),
            "captions": captions,
            **candidate.fields,
            "width": image.width,
            "height": image.height,
            "sha256": image.sha256,
        }
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            losses.add("not_utf8", f"{candidate.id}: {error}")
            continue
        ids.add(hash(candidate.id))
        contents.add(content)
        if candidate.payload is not None and unpacked is not None:
            (unpacked / candidate.path.name).write_bytes(candidate.payload)
        yield row
