"""Source `shards`: webdataset caption shards, as img2dataset writes them, or with class labels."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.files import clean, states_hash
from data_prep.parts import Part
from data_prep.sources.source import REPLACED, Candidate, Losses, SourceOptions
from pcclip.data.damage import DamagedGroupError
from pcclip.data.pictures import PICTURE_EXTENSIONS
from pcclip.data.tar_index import TarIndex

LONGEST_NAME = 255  # bytes of a file name
LONGEST_LABEL = 10  # digits
END = 1024  # bytes of zeros that end a tar


def inputs(options: SourceOptions) -> dict[str, str | Path]:
    """Return a hash over names, sizes and times of the shards, and the class names.

    Raises:
        FileNotFoundError: No shards.
        ValueError: `images` is not given.
    """
    if options.images is None:
        raise ValueError("captions.images: source `shards` needs the folder of the images, to unpack them into")
    found: dict[str, str | Path] = {"shards": states_hash((path.name, path) for path in _shards(options))}
    if options.class_names is not None:
        found["class_names"] = Path(options.class_names)
    return found


def candidates(options: SourceOptions, losses: Losses) -> Iterator[Candidate]:
    """Yield images in the order of the shards, each with its bytes.

    Raises:
        ValueError: A class without a name.
    """
    folder, class_captions = Path(str(options.images)).absolute(), []
    if options.class_names is not None:
        class_captions = [class_caption(options.template, name) for name in read_class_names(Path(options.class_names))]
    names: set[int] = set()  # hashes, which take less memory
    for shard, key, sample in _samples(options, losses):
        record = _record(sample)
        extension = next((extension for extension in PICTURE_EXTENSIONS if extension in sample), None)
        name = f"{key.replace('/', '__')}.{extension}"  # keys may hold folders; ours are flat
        caption = _caption(sample, record, class_captions)
        if extension is None:
            failed = record.get("status", "success") != "success"
            losses.add("failed_download" if failed else "missing", key)
        elif hash(name) in names:
            losses.add("duplicate_key", f"{shard}: {key}")
        elif len(os.fsencode(name)) > LONGEST_NAME:
            losses.add("long_key", key)
        elif REPLACED in caption:
            losses.add("not_utf8", key)
        elif not caption:
            losses.add("without_class_name" if sample.keys() & {"cls", "txt"} == {"cls"} else "without_caption", key)
        else:
            names.add(hash(name))
            fields = {"url": record["url"]} if isinstance(record.get("url"), str) else {}
            yield Candidate(key, folder / name, [caption], fields, payload=sample[extension])


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


def _shards(options: SourceOptions) -> list[Path]:
    folder, part = Path(options.input), Part.parse(options.part, "captions.part")
    shards = sorted(path for path in folder.glob("*.tar") if path.is_file())
    if not shards:
        raise FileNotFoundError(f"{folder}: no .tar files in it; `input` must be the folder of the caption shards")
    return shards[part.index :: part.count]


def _samples(options: SourceOptions, losses: Losses) -> Iterator[tuple[str, str, dict[str, bytes]]]:
    """Yield shard, key and members of each sample. Damage costs the samples that it is in, and is counted once a shard."""
    for shard in _shards(options):
        try:
            with TarIndex(shard) as index:
                for place, entry in enumerate(index.entries):
                    if entry.damage:
                        losses.add(entry.damage, f"{shard}: {entry.key}")
                    else:
                        members = index.read(place)
                        yield str(shard), entry.key, {name.lower(): payload for name, payload in members.items()}
                damage = "" if index.damage == "truncated" and _ends(shard) else index.damage
        except (OSError, DamagedGroupError) as error:
            damage = str(error)
        if damage:
            losses.add("damaged_shard", f"{shard}: {damage}")


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
    """Return the caption of a sample: its `.txt`, that of its class, or `caption` of its `.json`; empty if there is none."""
    if "txt" in sample:
        return sample["txt"].decode("utf-8", errors="replace").strip()
    if "cls" in sample and class_captions:
        label = sample["cls"].decode("ascii", errors="replace").strip()
        known = label.isdigit() and len(label) < LONGEST_LABEL and int(label) < len(class_captions)
        return class_captions[int(label)] if known else ""
    return "".join(clean([record.get("caption")]))
