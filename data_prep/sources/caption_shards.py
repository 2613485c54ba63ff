"""Source `shards`: webdataset shards with captions, such as those of img2dataset, or with class labels."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.articles import with_articles
from data_prep.files import clean
from data_prep.parts import Part
from data_prep.sources.source import REPLACED, Candidate, LeftOut, SourceOptions
from pcclip.data.damage import DamagedGroupError
from pcclip.data.pictures import PICTURE_EXTENSIONS
from pcclip.data.tar_index import TarIndex
from pcclip.paths import read_text

LONGEST_NAME = 255  # bytes of a file name
LONGEST_LABEL = 10  # digits
END = 1024  # zero bytes at the end of a tar


def candidates(options: SourceOptions, left_out: LeftOut) -> Iterator[Candidate]:
    """Yield images with their content, in the order of the shards.

    Raises:
        FileNotFoundError: There are no shards.
        ValueError: A class has no name.
    """
    folder, class_captions = Path(str(options.images)).absolute(), []
    if options.class_names is not None:
        class_captions = [class_caption(options.template, name) for name in read_class_names(Path(options.class_names))]
    names: set[int] = set()  # hashes, to save memory
    for shard, key, sample in _samples(options, left_out):
        record = _record(sample)
        extension = next((extension for extension in PICTURE_EXTENSIONS if extension in sample), None)
        name = f"{key.replace('/', '__')}.{extension}"  # keys may contain folders
        caption = _caption(sample, record, class_captions)
        if extension is None:
            failed = record.get("status", "success") != "success"
            left_out.add("failed_download" if failed else "missing", key)
        elif hash(name) in names:
            left_out.add("duplicate_key", f"{shard}: {key}")
        elif len(os.fsencode(name)) > LONGEST_NAME:
            left_out.add("long_key", key)
        elif REPLACED in caption:
            left_out.add("not_utf8", key)
        elif not caption:
            left_out.add("without_class_name" if sample.keys() & {"cls", "txt"} == {"cls"} else "without_caption", key)
        else:
            names.add(hash(name))
            fields = {"url": record["url"]} if isinstance(record.get("url"), str) else {}
            yield Candidate(key, folder / name, [caption], fields, payload=sample[extension])


def class_caption(template: str, name: str) -> str:
    """Return the template with the class name for `{}`, and the right article for `a(n)`."""
    return with_articles(template.replace("{}", name))


def read_class_names(file: Path) -> list[str]:
    """Read class names, one per line.

    Raises:
        ValueError: A line before the last name is empty: the labels would not match the names after it.
    """
    names = [name.strip() for name in read_text(file, "class names").rstrip().splitlines()]
    if "" in names:
        raise ValueError(f"{file}, line {names.index('') + 1}: no class name; labels are line numbers")
    return names


def _shards(options: SourceOptions) -> list[Path]:
    folder, part = Path(options.input), Part.parse(options.part, "captions.part")
    shards = sorted(path for path in folder.glob("*.tar") if path.is_file())
    if not shards:
        raise FileNotFoundError(f"{folder}: no .tar files in it; `input` must be the folder of the caption shards")
    return shards[part.index :: part.count]


def _samples(options: SourceOptions, left_out: LeftOut) -> Iterator[tuple[str, str, dict[str, bytes]]]:
    """Yield shard, key and members of each undamaged sample. Damage is counted once per shard."""
    for shard in _shards(options):
        try:
            with TarIndex(shard) as index:
                for place, entry in enumerate(index.entries):
                    if entry.damage:
                        left_out.add(entry.damage, f"{shard}: {entry.key}")
                    else:
                        members = index.read(place)
                        yield str(shard), entry.key, {name.lower(): payload for name, payload in members.items()}
                damage = "" if index.damage == "truncated" and _ends(shard) else index.damage
        except (OSError, DamagedGroupError) as error:
            damage = str(error)
        if damage:
            left_out.add("damaged_shard", f"{shard}: {damage}")


def _ends(shard: Path) -> bool:
    with shard.open("rb") as stream:
        stream.seek(max(0, shard.stat().st_size - END))
        return stream.read() == bytes(END)


def _record(sample: dict[str, bytes]) -> dict[str, Any]:
    try:
        record = json.loads(sample.get("json", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _caption(sample: dict[str, bytes], record: dict[str, Any], class_captions: list[str]) -> str:
    """Return the caption of a sample, or an empty text: its `.txt`, that of its class, or `caption` in its `.json`."""
    if "txt" in sample:
        return sample["txt"].decode("utf-8", errors="replace").strip()
    if "cls" in sample and class_captions:
        label = sample["cls"].decode("ascii", errors="replace").strip()
        known = label.isdigit() and len(label) < LONGEST_LABEL and int(label) < len(class_captions)
        return class_captions[int(label)] if known else ""
    return "".join(clean([record.get("caption")]))
