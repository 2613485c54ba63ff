"""Step `captions`: bring a captioned image set into one `captions.jsonl` whose images all decode."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import webdataset as wds
from omegaconf import MISSING

from data_prep.files import Row, atomic_folder, image_path, image_reference, read_captions, sizes_hash, write_jsonl
from data_prep.images import UnreadableImageError, check_image, read_bytes
from data_prep.manifest import Manifest
from data_prep.progress import progress
from pcclip.data.format import IMAGE_EXTENSIONS, sha256_of

STEP_VERSION = 1
SOURCES = ("csv", "shards", "jsonl")


@dataclass
class Options:
    """Options of the step.

    Attributes:
        source: What `input` is: `csv` (one row a caption; `.tsv` is split at tabs), `shards` (webdataset caption shards:
            image + `.txt`, or `.cls` with `class_names`, or `.json` with a `caption`) or `jsonl` (another
            `captions.jsonl`).
        input: The file, or for `shards` a folder of `.tar` files.
        output: The `captions.jsonl` to write.
        images: For `csv` the folder of the images, for `shards` the folder to unpack them into.
        image_column: Column of the image's file name, which becomes its id.
        caption_column: Column of the caption.
        class_names: For `shards` with `.cls`: file with one class name a line, in the order of the labels.
        template: Caption of a picture with a class, `{}` for the class's name; `a(n)` becomes "a" or "an", as the word
            after it asks.
    """

    source: str = MISSING
    input: str = MISSING
    output: str = MISSING
    images: str | None = None
    image_column: str = "image"
    caption_column: str = "caption"
    class_names: str | None = None
    template: str = "a photo of a(n) {}"


class Losses:
    """Counts and names of what was left out, by reason."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """Note one item."""
        self.names.setdefault(reason, []).append(name)

    def counts(self) -> dict[str, int]:
        """Number by reason."""
        return {reason: len(names) for reason, names in self.names.items()}


def run(options: Options) -> None:
    """Read `input`, write `output`; images that are missing or do not decode are left out and listed in the manifest.

    Raises:
        FileNotFoundError: `input`, `images` or `class_names` is missing.
        ValueError: An unknown source, a missing column, a template without `{}`, a class without a name, or not one
            usable image.
    """
    source, output = Path(options.input), Path(options.output)
    if options.source not in SOURCES:
        raise ValueError(f"captions.source: unknown source {options.source!r}; choose one of {', '.join(SOURCES)}")
    if options.source != "jsonl" and options.images is None:
        raise ValueError(f"captions.images: source `{options.source}` needs the folder of the images")
    if not source.exists():
        raise FileNotFoundError(f"{source}: `input` of the captions step not found")
    if options.class_names is not None and not Path(options.class_names).is_file():
        raise FileNotFoundError(f"{options.class_names}: `class_names` of the captions step not found")
    if options.template.count("{}") != 1:
        raise ValueError(f"captions.template: {options.template!r} must hold {{}} once, for the class's name")
    manifest = Manifest(
        "captions",
        STEP_VERSION,
        _inputs(options, source),
        {name: getattr(options, name) for name in ("source", "image_column", "caption_column", "template")},
    )
    if manifest.matches(output):
        print(f"{output} is up to date")
        return
    losses = Losses()
    if options.source == "shards":
        images = write_jsonl(output, unpack(source, output, options, losses))
    else:
        rows = (
            read_captions(source)
            if options.source == "jsonl"
            else enumerate(read_csv(source, options, losses), start=1)
        )
        images = write_jsonl(output, checked((row for _, row in rows), source, output, losses))
    if not images:
        output.unlink()
        reasons = ", ".join(f"{count} {reason}" for reason, count in losses.counts().items()) or "it is empty"
        raise ValueError(f"{source}: not one usable captioned image ({reasons})")
    manifest.write(output, {"images": images, **losses.counts()}, losses.names)
    print(f"{output}: {images} images" + "".join(f", {count} {reason}" for reason, count in losses.counts().items()))


def _inputs(options: Options, source: Path) -> dict[str, str]:
    if options.source == "shards":
        inputs = {"shards": sizes_hash((path.name, path) for path in _shards(source))}
        if options.class_names is not None:
            inputs["class_names"] = sha256_of(Path(options.class_names))
        return inputs
    inputs = {"input": sha256_of(source)}
    if options.source == "csv":
        folder = Path(str(options.images))
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: image folder (`images` of the captions step) not found")
        inputs["images"] = sizes_hash((path.name, path) for path in sorted(folder.iterdir()))
    else:
        inputs["images"] = sizes_hash((row["file"], image_path(source, row)) for _, row in read_captions(source))
    return inputs


def read_csv(file: Path, options: Options, losses: Losses) -> Iterator[Row]:
    """Rows of a CSV or TSV, the captions of an image brought together.

    Raises:
        ValueError: A column is missing.
    """
    captions: dict[str, list[str]] = {}
    with file.open(encoding="utf-8-sig", newline="") as stream:
        table = csv.DictReader(stream, delimiter="\t" if file.suffix == ".tsv" else ",")
        for column in (options.image_column, options.caption_column):
            if column not in (table.fieldnames or []):
                raise ValueError(
                    f"{file}: no column {column!r}; its columns are {', '.join(table.fieldnames or ['none'])}"
                )
        for line in table:
            name, caption = (
                str(line[column] or "").strip() for column in (options.image_column, options.caption_column)
            )
            if name and caption:
                captions.setdefault(name, []).append(caption)
            else:
                losses.add("incomplete_row", f"line {table.line_num}")
    folder = Path(str(options.images)).absolute()
    for name, texts in captions.items():
        yield {"id": name, "file": str(folder / name), "captions": texts}


def checked(rows: Iterable[Row], source: Path, output: Path, losses: Losses) -> Iterator[Row]:
    """Rows whose image decodes and that have a caption, `file` as seen from `output`."""
    for row in progress(rows, desc="captions", unit="image"):
        texts = [str(caption).strip() for caption in row["captions"] if str(caption).strip()]
        if not texts:
            losses.add("without_caption", row["id"])
            continue
        path = image_path(source, row)
        try:
            check_image(read_bytes(path), str(path))
        except UnreadableImageError as error:
            losses.add("unreadable" if path.exists() else "missing", f"{row['id']}: {error}")
        else:
            yield {**row, "file": image_reference(path, output), "captions": texts}


def unpack(source: Path, output: Path, options: Options, losses: Losses) -> Iterator[Row]:
    """Rows of webdataset caption shards, their images unpacked into `options.images`."""
    folder = Path(str(options.images))
    class_captions = []
    if options.class_names is not None:
        class_captions = [class_caption(options.template, name) for name in read_class_names(Path(options.class_names))]
    seen: set[str] = set()
    with atomic_folder(folder) as temporary:
        for sample in progress(_samples(source, losses), desc="captions", unit="image"):
            key = str(sample["__key__"])
            extension = next((extension for extension in IMAGE_EXTENSIONS if extension in sample), None)
            caption = _caption(sample, class_captions)
            if extension is None:
                losses.add("missing", key)
            elif key in seen:
                losses.add("duplicate_key", f"{sample['__url__']}: {key}")
            elif not caption:
                losses.add(
                    "without_class_name" if sample.keys() & {"cls", "txt"} == {"cls"} else "without_caption", key
                )
            else:
                try:
                    check_image(sample[extension], f"{sample['__url__']}: {key}")
                except UnreadableImageError as error:
                    losses.add("unreadable", str(error))
                    continue
                seen.add(key)
                name = f"{key.replace('/', '__')}.{extension}"  # keys may hold folders; ours are flat
                (temporary / name).write_bytes(sample[extension])
                yield {"id": key, "file": image_reference(folder / name, output), "captions": [caption]}


def _shards(folder: Path) -> list[Path]:
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise FileNotFoundError(f"{folder}: no .tar files in it; `input` must be the folder of the caption shards")
    return shards


def _samples(folder: Path, losses: Losses) -> Iterator[dict[str, Any]]:
    def note(error: Exception) -> bool:
        losses.add("damaged_shard", str(error))
        return True

    samples: Iterator[dict[str, Any]] = wds.tariterators.tarfile_samples(
        [{"url": str(shard)} for shard in _shards(folder)], handler=note
    )
    return samples


def class_caption(template: str, name: str) -> str:
    """The template filled with a class's name, its `a(n)` the article that fits the word after it."""
    return re.sub(
        r"([aA])\(n\)(?=\s+(\S))",
        lambda article: article[1] + ("n" if article[2].lower() in "aeiou" else ""),
        template.replace("{}", name),
    )


def read_class_names(file: Path) -> list[str]:
    """Class names, one a line.

    Raises:
        ValueError: An empty line before the last name: the labels would not fit the names after it.
    """
    names = [name.strip() for name in file.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    if "" in names:
        raise ValueError(f"{file}, line {names.index('') + 1}: no class name; labels count lines, so each needs a name")
    return names


def _caption(sample: dict[str, Any], class_captions: list[str]) -> str:
    """The caption of a sample: its `.txt`, that of its class, or `caption` of its `.json`; empty if there is none."""
    if "txt" in sample:
        return bytes(sample["txt"]).decode("utf-8", errors="replace").strip()
    if "cls" in sample and class_captions:
        label = bytes(sample["cls"]).decode("ascii", errors="replace").strip()
        return class_captions[int(label)] if label.isdigit() and int(label) < len(class_captions) else ""
    try:
        record = json.loads(sample.get("json", b"{}"))
    except ValueError:
        return ""
    return str(record.get("caption") or "").strip() if isinstance(record, dict) else ""
