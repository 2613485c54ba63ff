"""Content of a shard folder for evaluation: its distinct images, their captions, and the pairs in both directions."""

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pcclip.data.damage import REASONS, DamagedGroupError
from pcclip.data.format import IMAGE_EXTENSIONS, DatasetInfo
from pcclip.data.groups import read_groups, read_sample
from pcclip.data.labelled import ImageFile
from pcclip.data.record import GroupRecord, PairRecord, both_ways
from pcclip.data.tar_index import GroupEntry, TarIndex

logger = logging.getLogger(__name__)


@dataclass
class ShardIndex:
    """Content of a shard folder.

    Attributes:
        folder: The folder.
        info: Its `dataset.json`.
        ids: Index of each of the N distinct images, by id. An image in several groups counts once.
        captions: Captions of each image.
        images: The images, not decoded; empty for embedded shards.
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
    """Read the groups of a shard folder without decoding images. Pairs in one direction only are left out.

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
    for tar, entry, record in _records(index.folder, index.info):
        captions = [image["captions"] for image in record["images"]]
        for image in _add_group(index, [image["id"] for image in record["images"]], captions, record["pairs"]):
            names = (f"{image:02d}.{extension}" for extension in IMAGE_EXTENSIONS)
            # A missing image gets 0 bytes. It is reported as damaged when it is decoded, and its pairs are left out.
            offset, size = next((entry.members[name] for name in names if name in entry.members), (0, 0))
            index.images.append(ImageFile(str(tar), f"{entry.key}.{image:02d}", None, offset, size))
    return index


def texts_in(folders: Iterable[str | Path]) -> set[str]:
    """Return all captions and difference texts of shard folders, without decoding images. Damaged groups are skipped.

    Raises:
        FileNotFoundError: A folder or one of its shards is missing.
        ValueError: A damaged or foreign `dataset.json` or shard.
    """
    found: set[str] = set()
    for folder in folders:
        for _, _, record in _records(Path(folder), DatasetInfo.read(folder)):
            found.update(caption for image in record["images"] for caption in image["captions"])
            found.update(pair["text"] for pair in record["pairs"])
    return found


def named_in(names: Iterable[str], folders: Iterable[str | Path]) -> set[str]:
    """Return the names that occur in captions or texts of shard folders as whole words, in any case, singular or plural.

    Plurals are regular: -s, -es, -y to -ies, and -f or -fe to -ves.

    Raises:
        FileNotFoundError: As `texts_in`.
        ValueError: As `texts_in`.
    """
    texts = "\n".join(texts_in(folders)).lower()
    return {name for name in names if re.search(rf"\b(?:{'|'.join(_forms(name.lower()))})\b", texts)}


def _forms(name: str) -> list[str]:
    """Return regular expressions for a name and its plurals."""
    plurals = [re.sub(ending, plural, name) for ending, plural in ((r"(?<=[^aeiou])y$", "ies"), (r"fe?$", "ves"))]
    return [f"{re.escape(name)}(?:e?s)?", *(re.escape(plural) for plural in plurals)]


def _records(folder: Path, info: DatasetInfo) -> Iterator[tuple[Path, GroupEntry, GroupRecord]]:
    """Yield shard, entry and record of each group. Unreadable groups are skipped with a warning."""
    for shard in info.shards:
        tar = folder / shard.name
        with TarIndex(tar) as groups:
            if not groups.entries:
                raise ValueError(f"{tar}: {REASONS[groups.damage]}; copy it again or make the shards again")
            for place in range(min(shard.groups, len(groups.entries))):
                try:
                    record = read_sample(groups, place).record()
                except DamagedGroupError as error:
                    logger.warning("%s; group skipped", error)
                    continue
                yield tar, groups.entries[place], record


def _add_group(index: ShardIndex, ids: list[str], captions: list[list[str]], pairs: Iterable[PairRecord]) -> list[int]:
    """Add a group's new images and its pairs. Return the places in the group of the new images."""
    known = index.ids
    fresh = []
    for place, name in enumerate(ids):
        if name not in known:
            known[name] = len(known)
            index.captions.append(captions[place])
            fresh.append(place)
    numbers = [known[name] for name in ids]
    renumbered: list[PairRecord] = [
        {"first": numbers[pair["first"]], "second": numbers[pair["second"]], "text": pair["text"]} for pair in pairs
    ]
    for pair, reverse in both_ways(renumbered):
        index.first.append(pair["first"])
        index.second.append(pair["second"])
        index.texts.append(pair["text"])
        index.reverses.append(reverse["text"])
    return fresh
