"""Step `shard`: pack images, captions and difference texts into group shards for training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import webdataset as wds
from braceexpand import braceexpand
from omegaconf import MISSING

from data_prep.files import DIFFERENCE_KEYS, atomic_folder, image_path, read_captions, read_jsonl, sizes_hash
from data_prep.images import StoredImage, UnreadableImageError, store_image
from data_prep.manifest import Manifest
from data_prep.progress import progress
from pcclip.data.format import DatasetInfo, GroupRecord, PairRecord, ShardInfo, image_member, sha256_of

STEP_VERSION = 1


@dataclass
class Options:
    """Options of the step.

    Attributes:
        captions: One or several `captions.jsonl`; ids must be unique over all of them.
        output: The shard folder to write.
        differences: `differences.jsonl` files about those images; none for caption shards without pairs.
        groups_include: Shell patterns of group names to take, with ranges like `train{000..039}`.
        groups_exclude: Such patterns of groups to leave out, stronger than `groups_include`.
        unpaired: Also take the images that are in no group at all, dealt into groups without pairs. A group's images are
            those of its pairs.
        group_size: Images in a group without pairs.
        groups_per_shard: Groups in a shard; give at least as many shards as training has workers.
        resize: Longest side of a stored image in pixels; larger ones are shrunk, none is enlarged. Null: as they are.
        quality: JPEG quality of images that have to be encoded anew.
        seed: Seed of the order of groups.
    """

    captions: list[str] = MISSING
    output: str = MISSING
    differences: list[str] = field(default_factory=list)
    groups_include: list[str] = field(default_factory=lambda: ["*"])
    groups_exclude: list[str] = field(default_factory=list)
    unpaired: bool = False
    group_size: int = 16
    groups_per_shard: int = 64
    resize: int | None = None
    quality: int = 90
    seed: int = 0


@dataclass(frozen=True)
class SourceImage:
    """An image to be packed."""

    path: Path
    captions: list[str]


@dataclass
class SourceGroup:
    """A group to be packed: ids of its images, and its ordered pairs as indices into them."""

    name: str
    ids: list[str]
    pairs: list[PairRecord]


def run(options: Options) -> None:
    """Read `captions` and `differences`, write the shard folder `output`.

    Raises:
        FileNotFoundError: An input is missing.
        ValueError: A bad row, an id used twice, a pair of unknown images or of one with itself, an empty text, a pattern
            that matches no group, or nothing to pack.
    """
    for name in ("group_size", "groups_per_shard", "quality"):
        if getattr(options, name) < 1:
            raise ValueError(f"shard.{name} must be at least 1, found {getattr(options, name)}")
    if options.resize is not None and options.resize < 1:
        raise ValueError(f"shard.resize must be at least 1 or null, found {options.resize}")
    output = Path(options.output)
    images = read_images([Path(file) for file in options.captions])
    groups = read_differences([Path(file) for file in options.differences], images)
    chosen = choose_groups(groups, options)
    if options.unpaired:
        chosen += unpaired_groups(images, groups, options.group_size, options.seed)
    if not chosen:
        raise ValueError(f"{output}: no groups to pack; give `differences`, or set `unpaired: true` for captions alone")
    chosen = [chosen[index] for index in np.random.default_rng(options.seed).permutation(len(chosen))]
    used = dict.fromkeys(image for group in chosen for image in group.ids)
    manifest = Manifest(
        "shard",
        STEP_VERSION,
        {
            **{f"captions.{index}": sha256_of(Path(file)) for index, file in enumerate(options.captions)},
            **{f"differences.{index}": sha256_of(Path(file)) for index, file in enumerate(options.differences)},
            "images": sizes_hash((image, images[image].path) for image in used),
        },
        {name: value for name, value in asdict(options).items() if name not in ("captions", "differences", "output")},
    )
    if manifest.matches(output) and is_whole(output):
        print(f"{output} is up to date")
        return
    unreadable: dict[str, str] = {}
    with atomic_folder(output) as folder:
        bar = progress(chosen, desc="shard", unit="group")
        packed = (pack(group, images, options, unreadable) for group in bar)
        info = write_shards(folder, (group for group in packed if group is not None), options.groups_per_shard)
        if not info.shards:
            raise ValueError(
                f"{output}: not one image could be read, the first because {next(iter(unreadable.values()))}"
            )
        counts = {"groups": info.groups, "images": info.images, "pairs": info.pairs, "unreadable": len(unreadable)}
        manifest.complete(counts, {"unreadable": list(unreadable.values())})
        info.made_by = asdict(manifest)
        info.write(folder)
    manifest.write(output, manifest.counts, manifest.left_out)
    print(
        f"{output}: {info.groups} groups, {info.images} images, {info.pairs} ordered pairs in {len(info.shards)} shards"
    )
    if unreadable:
        print(f"{output}: left out {len(unreadable)} unreadable images, listed in the manifest")


def is_whole(folder: Path) -> bool:
    """Whether a shard folder still has all of its shards in full: somebody may have deleted one."""
    try:
        DatasetInfo.read(folder)
    except (ValueError, FileNotFoundError):
        return False
    return True


def read_images(files: list[Path]) -> dict[str, SourceImage]:
    """Images of all captions files by id.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A bad row, or an id that occurs twice.
    """
    images: dict[str, SourceImage] = {}
    owners: dict[str, Path] = {}
    for file in files:
        for number, row in read_captions(file):
            if row["id"] in images:
                raise ValueError(
                    f"{file}, line {number}: image id {row['id']!r} is also in {owners[row['id']]}; "
                    "rename it in one of them, ids must be unique over all captions files"
                )
            owners[row["id"]] = file
            images[row["id"]] = SourceImage(image_path(file, row), [str(caption) for caption in row["captions"]])
    return images


def read_differences(files: list[Path], images: dict[str, SourceImage]) -> list[SourceGroup]:
    """All groups of all differences files; each row gives two ordered pairs.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A bad row, an unknown image, an image paired with itself, or an empty text.
    """
    groups: dict[tuple[int, str], SourceGroup] = {}
    for source, file in enumerate(files):
        for number, row in read_jsonl(file, DIFFERENCE_KEYS):
            where = f"{file}, line {number}"
            group = groups.setdefault((source, row["group"]), SourceGroup(row["group"], [], []))
            for side in ("first", "second"):
                if row[side] not in images:
                    raise ValueError(
                        f"{where}: `{side}` is {row[side]!r}, which no captions file has; mend or delete the row"
                    )
                if row[side] not in group.ids:
                    group.ids.append(row[side])
            for key in ("text", "reverse_text"):
                if not row[key].strip():
                    raise ValueError(f"{where}: `{key}` is empty; mend or delete the row")
            if row["first"] == row["second"]:
                raise ValueError(f"{where}: image {row['first']!r} is paired with itself; delete the row")
            first, second = group.ids.index(row["first"]), group.ids.index(row["second"])
            group.pairs.append({"first": first, "second": second, "text": row["text"]})
            group.pairs.append({"first": second, "second": first, "text": row["reverse_text"]})
    return list(groups.values())


def choose_groups(groups: list[SourceGroup], options: Options) -> list[SourceGroup]:
    """Groups that match `groups_include` and not `groups_exclude`.

    Raises:
        ValueError: A pattern matches no group at all, which is most likely a misspelling.
    """
    names = {group.name for group in groups}

    def matching(key: str, patterns: list[str]) -> set[str]:
        found: set[str] = set()
        for pattern in (expanded for written in patterns for expanded in braceexpand(written)):
            hits = {name for name in names if fnmatchcase(name, pattern)}
            if not hits and names:
                raise ValueError(f"shard.{key}: {pattern!r} matches no group; groups are named like {min(names)!r}")
            found |= hits
        return found

    wanted = matching("groups_include", options.groups_include) - matching("groups_exclude", options.groups_exclude)
    return [group for group in groups if group.name in wanted]


def unpaired_groups(
    images: dict[str, SourceImage], groups: list[SourceGroup], size: int, seed: int
) -> list[SourceGroup]:
    """Deal the images that are in no group, chosen or not, into groups without pairs."""
    paired = {image for group in groups for image in group.ids}
    free = [image for image in images if image not in paired]
    order = [free[index] for index in np.random.default_rng(seed).permutation(len(free))]
    return [SourceGroup("", order[start : start + size], []) for start in range(0, len(order), size)]


@dataclass(frozen=True)
class PackedGroup:
    """A group as it goes into a shard."""

    record: GroupRecord
    images: list[StoredImage]


def pack(
    group: SourceGroup, images: dict[str, SourceImage], options: Options, unreadable: dict[str, str]
) -> PackedGroup | None:
    """Read a group's images; unreadable ones go out with their pairs, and None is left when all are.

    Args:
        group: What to pack.
        images: All images by id.
        options: How to store them.
        unreadable: Takes the reasons of unreadable images by id.
    """
    stored: list[StoredImage] = []
    place: dict[int, int] = {}
    for index, image in enumerate(group.ids):
        try:
            stored.append(store_image(images[image].path, options.resize, options.quality))
        except UnreadableImageError as error:
            unreadable[image] = str(error)
        else:
            place[index] = len(place)
    if not stored:
        return None
    return PackedGroup(
        {
            "images": [{"id": group.ids[index], "captions": images[group.ids[index]].captions} for index in place],
            "pairs": [
                {"first": place[pair["first"]], "second": place[pair["second"]], "text": pair["text"]}
                for pair in group.pairs
                if pair["first"] in place and pair["second"] in place
            ],
        },
        stored,
    )


def write_shards(folder: Path, groups: Iterator[PackedGroup], groups_per_shard: int) -> DatasetInfo:
    """Write groups into `000000.tar`, `000001.tar`, ...; the same groups always give the same bytes."""
    info = DatasetInfo(kind="images", group_size=0, images=0, pairs=0, shards=[])
    number = 0
    group = next(groups, None)
    while group is not None:
        path, start = folder / f"{len(info.shards):06d}.tar", number
        with path.open("wb") as stream, wds.TarWriter(stream, user="", group="", mtime=0, encoder=False) as tar:
            while group is not None and number - start < groups_per_shard:
                key = f"{number:08d}"
                members = {
                    image_member(key, index, image.extension).split(".", 1)[1]: image.payload
                    for index, image in enumerate(group.images)
                }
                tar.write({"__key__": key, **members, "json": json.dumps(group.record, ensure_ascii=False).encode()})
                info.group_size = max(info.group_size, len(group.images))
                info.images += len(group.images)
                info.pairs += len(group.record["pairs"])
                number += 1
                group = next(groups, None)
        info.shards.append(ShardInfo(path.name, number - start, path.stat().st_size, sha256_of(path)))
    return info
