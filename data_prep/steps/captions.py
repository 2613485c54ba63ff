"""Step `captions`: bring a captioned image set into one `captions.jsonl` whose images all decode."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, cast

from data_prep.files import Row, clean, image_reference, manifest_path, write_jsonl
from data_prep.lock import output_lock
from data_prep.manifest import Manifest
from data_prep.progress import progress
from data_prep.sources.check import check_all
from data_prep.sources.source import Candidate, Losses, Source, SourceOptions
from data_prep.step import Made, OutputStep, Workers
from pcclip.atomic import atomic_folder
from pcclip.paths import existing_file

# Modules are imported when they are used: webdataset takes seconds.
SOURCES = {
    "coco": "data_prep.sources.coco",
    "csv": "data_prep.sources.table",
    "jsonl": "data_prep.sources.jsonl",
    "folder": "data_prep.sources.folder",
    "shards": "data_prep.sources.caption_shards",
    "cub": "data_prep.sources.cub_captions",
    "parts": "data_prep.sources.joined",
}


@dataclass(kw_only=True)
class Captions(SourceOptions, Workers, OutputStep):
    """Bring a captioned image set into one `captions.jsonl` whose images all decode.

    Its rows also have each image's upright `width` and `height`, and its `sha256`.
    """

    version: ClassVar[int] = 2

    duplicates: Literal["drop", "keep"] = "drop"
    """What to do with an image that has the same bytes as an earlier one. The manifest lists it either way. Dropping is
    the default because an image paired with its copy has no difference to describe."""

    def check_options(self) -> None:
        _ = self.own_part
        if self.source != "parts" and not Path(self.input).exists():
            raise FileNotFoundError(f"{self.input}: `input` of the captions step not found")
        if self.class_names is not None:
            existing_file(self.class_names, "`class_names` of the captions step")
        if self.template.count("{}") != 1:
            raise ValueError(f"captions.template: {self.template!r} must hold {{}} once, for the class's name")

    def inputs(self) -> dict[str, str | Path]:
        return self._source().inputs(self)

    def is_current(self, manifest: Manifest) -> bool:
        return super().is_current(manifest) and (self._unpacked is None or self._unpacked.is_dir())

    def make(self, manifest: Manifest) -> Made:
        """Read `input`, write `output`.

        Bad rows, images that are missing or do not decode, and repeated ids are left out, counted and listed in the
        manifest.

        Raises:
            ValueError: An input that is wholly broken (not JSON, without the column, ...), or not one usable image.
        """
        output, unpacked = Path(self.output), self._unpacked
        if (
            unpacked is not None
            and unpacked.exists()
            and not manifest_path(output).is_file()
            and any(unpacked.iterdir())
        ):
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
            images = write_jsonl(output, _rows(self._source().candidates(self, losses), self, losses, folder))
            summary = "".join(f", {count} {reason}" for reason, count in losses.counts.items())
            if not images:
                output.unlink()
                first = next((f"; first: {names[0]}" for names in losses.names().values()), "")
                raise ValueError(
                    f"{self.input}: not one usable captioned image ({summary.removeprefix(', ') or 'it is empty'}){first}"
                )
        return Made({"images": images, **losses.counts}, losses.names(), message=f"{images} images{summary}")

    @property
    def _unpacked(self) -> Path | None:
        return Path(str(self.images)) if self.source == "shards" else None

    def _source(self) -> Source:
        return cast(Source, importlib.import_module(SOURCES[self.source]))


def _rows(found: Iterator[Candidate], options: Captions, losses: Losses, unpacked: Path | None) -> Iterator[Row]:
    ids: set[int] = set()  # hashes, which take far less memory than what they stand for
    contents: set[int] = set()
    part, output = options.own_part, Path(options.output)
    if part.count > 1 and options.source != "shards":  # there, whole shards belong to a part
        found = (candidate for candidate in found if part.holds(candidate.id))
    checked = check_all(found, 1 if options.source == "parts" else options.workers)
    for candidate, image in progress(checked, desc="captions", unit="image"):
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
