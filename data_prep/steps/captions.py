"""Step `captions`: read a captioned image set into one `captions.jsonl`, without unreadable images."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

from data_prep.files import Row, clean, image_reference, manifest_path, states_hash, write_jsonl
from data_prep.images import Checked, check_all
from data_prep.manifest import Manifest
from data_prep.progress import progress
from data_prep.sources import caption_shards, image_sets, tables
from data_prep.sources.source import Candidate, LeftOut, SourceOptions, folder_hash, input_tables
from data_prep.step import Made, OutputStep, Workers, output_lock
from data_prep.workers import in_order
from pcclip.atomic import atomic_folder
from pcclip.data.picture_files import PICTURE_ENDINGS
from pcclip.paths import matching_files

CHUNK = 64  # images per task of a worker; a task costs about a millisecond
# Each function yields captioned images in the order of the source, and adds bad rows to what is left out.
SOURCES: dict[str, Callable[[SourceOptions, LeftOut], Iterator[Candidate]]] = {
    "coco": image_sets.coco_candidates,
    "csv": tables.csv_candidates,
    "jsonl": image_sets.jsonl_candidates,
    "folder": image_sets.folder_candidates,
    "shards": caption_shards.candidates,
    "cub": image_sets.cub_candidates,
    "parts": image_sets.parts_candidates,
    "parquet": tables.parquet_candidates,
    "embeddings": tables.embedding_candidates,
}


@dataclass(kw_only=True)
class Captions(SourceOptions, Workers, OutputStep):
    """Read a captioned image set into one `captions.jsonl`, without unreadable images.

    Each row also has the image's upright `width` and `height`, and its `sha256`.
    """

    version: ClassVar[int] = 2

    duplicates: Literal["drop", "keep"] = "drop"
    """Drop or keep an image with the same bytes as an earlier one. The manifest lists it in both cases. A pair of
    duplicates has no difference to describe."""

    def check_options(self) -> None:
        if self.source not in ("parts", "parquet", "embeddings") and not Path(self.input).exists():
            raise FileNotFoundError(f"{self.input}: `input` of the step captions not found")
        if self.source in ("coco", "csv", "shards", "parquet") and self.images is None:
            raise ValueError(f"captions.images: set it to the folder of the images, for source `{self.source}`")
        if (self.source == "embeddings") != (self.embeddings is not None):
            raise ValueError("captions.embeddings: set it for source `embeddings`, and only for it")
        if self.attribute_columns and self.source not in ("csv", "parquet", "embeddings"):
            raise ValueError(f"captions.attribute_columns: source `{self.source}` has no columns; leave it out")
        if self.source == "embeddings" and self.part is not None:
            raise ValueError("captions.part: source `embeddings` has no parts, since it decodes nothing; leave it out")
        if self.template.count("{}") != 1:
            raise ValueError(f"captions.template: {self.template!r} must contain {{}} once, for the class name")

    def inputs(self) -> dict[str, str | Path]:
        tables = self.source in ("parts", "parquet", "embeddings")
        given = {
            "input": None if tables else self.input,
            "images": None if self._unpacked is not None else self.images,
            "texts": self.texts,
            "class_names": self.class_names,
        }
        suffixes = (".tar",) if self.source == "shards" else (".txt", "", *PICTURE_ENDINGS)
        found: dict[str, str | Path] = {}
        for role, path in ((role, Path(value)) for role, value in given.items() if value is not None):
            if path.exists():  # else the source raises an error
                found[role] = folder_hash(path, suffixes) if path.is_dir() else path
        if tables:
            found["input"] = states_hash((file.name, file) for file in input_tables(self))
        if self.embeddings is not None:
            files = matching_files(self.embeddings, "`embeddings` of the step captions")
            found["embeddings"] = states_hash((file.name, file) for file in files)
        if self.source == "jsonl" and self.images is None:
            images = image_sets.jsonl_candidates(self, LeftOut())
            found["images"] = states_hash((each.id, each.path) for each in images)
        return found

    def is_current(self, manifest: Manifest) -> bool:
        return super().is_current(manifest) and (self._unpacked is None or self._unpacked.is_dir())

    def make(self, manifest: Manifest) -> Made:
        """Write the rows of all usable images.

        Bad rows, missing or unreadable images, and repeated ids are left out, counted, and listed in the manifest.

        Raises:
            ValueError: The input as a whole is broken (not JSON, without the column, ...), or has no usable image.
        """
        output, unpacked = Path(self.output), self._unpacked
        if (
            unpacked is not None
            and unpacked.exists()
            and not manifest_path(output).is_file()
            and any(unpacked.iterdir())
        ):
            raise ValueError(
                f"{unpacked}: `images`, the folder to unpack into, is not empty; name a new folder, or delete it"
            )
        left_out = LeftOut()
        with ExitStack() as stack:
            folder = None
            if unpacked is not None:
                stack.enter_context(output_lock(unpacked))
                folder = stack.enter_context(atomic_folder(unpacked))
            images = write_jsonl(output, _rows(SOURCES[self.source](self, left_out), self, left_out, folder))
            summary = "".join(f", {count} {reason}" for reason, count in left_out.counts.items())
            if not images:
                output.unlink()
                first = next((f"; first: {names[0]}" for names in left_out.names().values()), "")
                raise ValueError(
                    f"{self.input}: no usable captioned image ({summary.removeprefix(', ') or 'it is empty'}){first}"
                )
        return Made({"images": images, **left_out.counts}, left_out.names(), message=f"{images} images{summary}")

    @cached_property
    def _unpacked(self) -> Path | None:
        unpacks = self.source == "shards" or (self.source == "parquet" and tables.holds_images(self))
        return Path(str(self.images)) if unpacks else None


def _rows(found: Iterator[Candidate], options: Captions, left_out: LeftOut, unpacked: Path | None) -> Iterator[Row]:
    ids: set[int] = set()  # hashes, to save memory
    contents: set[int] = set()
    part, output = options.own_part, Path(options.output)
    if part.count > 1 and options.source != "shards":  # whose parts are whole shards
        found = (candidate for candidate in found if part.holds(candidate.id))
    checked = check_candidates(found, 1 if options.source in ("parts", "embeddings") else options.workers)
    for candidate, image in progress(checked, desc="captions", unit="image"):
        captions = clean(candidate.captions)
        if not candidate.id:
            left_out.add("without_id", ", ".join(captions))
            continue
        if not captions:
            left_out.add("without_caption", candidate.id)
            continue
        if image.reason:
            left_out.add(image.reason, f"{candidate.id}: {image.message}")
            continue
        if hash(candidate.id) in ids:
            left_out.add("duplicate_id", candidate.id)
            continue
        if (content := int(image.sha256[:16], base=16)) in contents:
            left_out.add(
                "duplicate_kept" if options.duplicates == "keep" else "duplicate", f"{candidate.id}: {image.sha256}"
            )
            if options.duplicates == "drop":
                continue
        row = {
            "id": candidate.id,
            "file": image_reference(candidate.path, output),
            "captions": captions,
            **candidate.fields,
            **({"width": image.width, "height": image.height} if image.width else {}),
            "sha256": image.sha256,
        }
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            left_out.add("not_utf8", f"{candidate.id}: {error}")
            continue
        ids.add(hash(candidate.id))
        contents.add(content)
        if candidate.payload is not None and unpacked is not None:
            (unpacked / candidate.path.name).write_bytes(candidate.payload)
        yield row


def check_candidates(candidates: Iterable[Candidate], workers: int) -> Iterator[tuple[Candidate, Checked]]:
    """Decode the images of candidates, and yield both in the same order.

    Args:
        candidates: What a source found.
        workers: Number of worker processes. 0 and 1 use this process.

    Raises:
        ChildProcessError: A worker process died.
    """
    stream, under_way = iter(candidates), deque[list[Candidate]]()

    def chunks() -> Iterator[list[tuple[Path, bytes | None, Checked | None]]]:
        while chunk := list(islice(stream, CHUNK)):
            under_way.append(chunk)
            yield [(candidate.path, candidate.payload, candidate.checked) for candidate in chunk]

    for checked in in_order(check_all, chunks(), workers, "captions.workers"):
        yield from zip(under_way.popleft(), checked, strict=True)
