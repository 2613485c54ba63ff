"""Writing one shard: from the numbers of its groups to a tar file, in any process and always with the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import webdataset as wds

from data_prep.group_index import GroupReader, SourceGroup, Sources
from data_prep.images import StoredImage, encode_image, read_bytes
from data_prep.partial import PartialFolder
from pcclip.atomic import atomic_path
from pcclip.data.format import GroupRecord, ShardInfo, image_member, sha256_of
from pcclip.data.pictures import UnreadableImageError


@dataclass(frozen=True)
class Packing:
    """How shards are packed: out of which files, into which folder, with images of which size and quality."""

    sources: Sources
    partial: PartialFolder
    resize: int | None
    quality: int


@dataclass
class FinishedShard:
    """What was written of one shard; its size is 0 and there is no file when not one of its images could be read.

    Attributes:
        shard: Name, groups, size and hash.
        group_size: The largest number of images in a group.
        images: Number of image places.
        pairs: Number of ordered pairs.
        unreadable: Reasons of the images that were left out, by id.
    """

    shard: ShardInfo
    group_size: int = 0
    images: int = 0
    pairs: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PackedGroup:
    """A group as it goes into a shard."""

    record: GroupRecord
    images: list[StoredImage]


def write_shard(packing: Packing, name: str, first_key: int, groups: Sequence[int]) -> FinishedShard:
    """Write a shard into the folder, and a record of it for restarts.

    Args:
        packing: What to write from and how.
        name: The shard's file name.
        first_key: Key of its first group; the others count on from it.
        groups: Numbers of its groups in the index.
    """
    path = packing.partial.shards / name
    done = FinishedShard(ShardInfo(name, 0, 0, ""))
    with atomic_path(path) as temporary:
        with temporary.open("wb") as stream, GroupReader(packing.sources) as reader:
            with wds.TarWriter(stream, user="", group="", mtime=0, encoder=False) as tar:
                for key, number in enumerate(groups, start=first_key):
                    group = pack(reader.read(number), packing.resize, packing.quality, done.unreadable)
                    if group.images:
                        tar.write(_sample(f"{key:08d}", group))
                        done.shard.groups += 1
                        done.group_size = max(done.group_size, len(group.images))
                        done.images += len(group.images)
                        done.pairs += len(group.record["pairs"])
            stream.flush()
            os.fsync(stream.fileno())
        done.shard.bytes, done.shard.sha256 = temporary.stat().st_size, sha256_of(temporary)
    if not done.images:
        path.unlink()
    packing.partial.record(name, asdict(done))
    return done


def finished_shard(partial: PartialFolder, name: str) -> FinishedShard | None:
    """Return what an earlier run has recorded of a shard, or None if it did not finish it."""
    content = partial.recorded(name)
    return None if content is None else FinishedShard(**{**content, "shard": ShardInfo(**content["shard"])})


def pack(group: SourceGroup, resize: int | None, quality: int, unreadable: dict[str, str]) -> PackedGroup:
    """Read a group's images; those that are unreadable or have changed go out with their pairs.

    Args:
        group: What to pack.
        resize: Longest side of a stored image in pixels, or None.
        quality: JPEG quality of images encoded again.
        unreadable: Takes the reasons of unreadable images by id.
    """
    stored: list[StoredImage] = []
    place: dict[int, int] = {}
    for index, image in enumerate(group.images):
        try:
            payload = read_bytes(image.path)
            if image.sha256 and hashlib.sha256(payload).hexdigest() != image.sha256:
                raise UnreadableImageError(str(image.path), "is not the picture that the captions step read")
            stored.append(encode_image(payload, image.name, resize, quality))
        except UnreadableImageError as error:
            unreadable[image.id] = f"{image.name}: {error.reason}"
        else:
            place[index] = len(place)
    return PackedGroup(
        {
            "images": [{"id": group.images[index].id, "captions": group.images[index].captions} for index in place],
            "pairs": [
                {"first": place[pair["first"]], "second": place[pair["second"]], "text": pair["text"]}
                for pair in group.pairs
                if pair["first"] in place and pair["second"] in place
            ],
        },
        stored,
    )


def _sample(key: str, group: PackedGroup) -> dict[str, Any]:
    members = {
        image_member(key, index, image.extension).split(".", 1)[1]: image.payload
        for index, image in enumerate(group.images)
    }
    return {"__key__": key, **members, "json": json.dumps(group.record, ensure_ascii=False).encode()}
