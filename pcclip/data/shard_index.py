"""What a shard folder holds, for evaluation: its distinct images, their captions, and its pairs with both directions."""

from __future__ import annotations

import tarfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pcclip.data.format import IMAGE_EXTENSIONS, DatasetInfo, GroupRecord, PairRecord, parse_group
from pcclip.data.groups import read_groups
from pcclip.data.labelled import ImageFile


@dataclass
class ShardIndex:
    """The content of a shard folder.

    Attributes:
        folder: Where it is.
        info: Its `dataset.json`.
        ids: The N distinct images and their index; one dealt into several groups is one image.
        captions: Captions of each image.
        images: Where each image is, not yet decoded; empty for embedded shards.
        embeddings: (N, D) for embedded shards, else None; NaN where damaged.
        first: Index of the first image of each pair, (P,).
        second: Index of the second, (P,).
        texts: P texts that describe first against second.
        reverses: P texts that describe second against first.
    """

    folder: Path
    info: DatasetInfo
    ids: dict[str, int] = field(default_factory=dict)
    captions: list[list[str]] = field(default_factory=list)
    images: list[ImageFile] = field(default_factory=list)
    embeddings: Tensor | None = None
    first: list[int] = field(default_factory=list)
    second: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    reverses: list[str] = field(default_factory=list)


def read_shard_index(folder: str | Path) -> ShardIndex:
    """Read the groups of a shard folder without decoding images. A pair given in one direction only is left out.

    Raises:
        FileNotFoundError: The folder or one of its shards is missing.
        ValueError: A damaged or foreign `dataset.json`, shard or group.
    """
    index = ShardIndex(Path(folder), DatasetInfo.read(folder))
    if index.info.kind == "embeddings":
        rows = []
        for group in read_groups(folder):
            assert group.embeddings is not None  # decided by the kind
            fresh = _add_group(index, group.ids, group.captions, group.pairs)
            rows += [
                group.embeddings[place] if group.intact[place] else torch.full_like(group.embeddings[place], torch.nan)
                for place in fresh
            ]
        index.embeddings = torch.stack(rows)
        return index
    for shard in index.info.shards:
        tar = index.folder / shard.name
        for key, record, members in _tar_groups(tar):
            captions = [image["captions"] for image in record["images"]]
            for place in _add_group(index, [image["id"] for image in record["images"]], captions, record["pairs"]):
                # an image that is not there has no bytes: it is met as damaged, reported, and its pairs left out
                offset, size = members.get(place, (0, 0))
                index.images.append(ImageFile(str(tar), f"{key}.{place:02d}", None, offset, size))
    return index


def _add_group(index: ShardIndex, ids: list[str], captions: list[list[str]], pairs: Iterable[PairRecord]) -> list[int]:
    """Add a group's new images and its pairs; returns the places in the group of the images that are new."""
    known = index.ids
    fresh = []
    for place, name in enumerate(ids):
        if name not in known:
            known[name] = len(known)
            index.captions.append(captions[place])
            fresh.append(place)
    waiting: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for pair in pairs:
        first, second = known[ids[pair["first"]]], known[ids[pair["second"]]]
        if waiting[second, first]:
            index.first.append(second)
            index.second.append(first)
            index.texts.append(waiting[second, first].pop(0))
            index.reverses.append(pair["text"])
        else:
            waiting[first, second].append(pair["text"])
    return fresh


def _tar_groups(tar: Path) -> Iterable[tuple[str, GroupRecord, dict[int, tuple[int, int]]]]:
    """Key, record, and each image's offset and size, of the groups of a shard."""
    members: defaultdict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
    records: dict[str, GroupRecord] = {}
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                key, _, rest = member.name.partition(".")
                place, _, extension = rest.partition(".")
                if rest == "json":
                    content = archive.extractfile(member)
                    records[key] = parse_group(content.read() if content else b"", f"{tar}: group {key}")
                elif extension in IMAGE_EXTENSIONS and place.isdecimal():
                    members[key][int(place)] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise ValueError(f"{tar}: not a readable tar ({error}); copy it again or make the shards again") from error
    return [(key, record, members[key]) for key, record in records.items()]
