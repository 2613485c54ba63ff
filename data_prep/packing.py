"""Writing one shard: from the numbers of its groups to a tar file, in any process and always with the same bytes."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from data_prep.group_index import GroupReader, SourceGroup, Sources
from data_prep.images import StoredImage, encode_image, read_bytes
from data_prep.partial import FinishedShard, PartialFolder, ShardFile
from pcclip.data.pictures import UnreadableImageError
from pcclip.data.record import GroupRecord


@dataclass(frozen=True)
class Packing:
    """Settings of packing: input files, output folder, image size and image quality."""

    sources: Sources
    partial: PartialFolder
    resize: int | None
    quality: int


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
    file = ShardFile(packing.partial.shards / name)
    try:
        with GroupReader(packing.sources) as reader:
            for key, number in enumerate(groups, start=first_key):
                group = pack(reader.read(number), packing.resize, packing.quality, file.written.unreadable)
                if group.images:
                    pairs = len(group.record["pairs"])
                    file.add(f"{key:08d}", _members(group), images=len(group.images), pairs=pairs)
    except BaseException as error:
        file.discard(error)
        raise
    done = file.finish()
    if not done.images:
        (packing.partial.shards / name).unlink()
        done.shard.bytes = 0
    packing.partial.record(done)
    return done


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


def _members(group: PackedGroup) -> dict[str, bytes]:
    members = {f"{index:02d}.{image.extension}": image.payload for index, image in enumerate(group.images)}
    return {**members, "json": json.dumps(group.record, ensure_ascii=False).encode()}
