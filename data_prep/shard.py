"""Step `shard`: pack images, captions and difference texts into group shards for training."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import numpy as np
from braceexpand import braceexpand
from numpy.typing import NDArray
from omegaconf import MISSING

from data_prep.group_index import GroupIndex
from data_prep.lock import locks_output
from data_prep.manifest import Manifest, package_versions
from data_prep.packing import FinishedShard, Packing, finished_shard, write_shard
from data_prep.partial import PartialFolder
from data_prep.parts import Part
from data_prep.progress import progress
from data_prep.workers import worker_pool
from pcclip.data.format import DatasetInfo

STEP_VERSION = 2
Job = tuple[str, int, NDArray[np.int64]]  # name, key of the first group, and numbers of the groups
LISTED = 1000  # unreadable images named in the manifest; all are counted


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
        quality: JPEG quality of images that have to be encoded again.
        seed: Seed of the order of groups.
        workers: Processes that each pack a shard at a time; 0 packs in this one. The shards do not depend on it.
        part: Pack only every K-th shard, `1/K` to `K/K`; each machine writes another `output`, and training reads them all.
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
    workers: int = 2
    part: str | None = None


@locks_output
def run(options: Options) -> None:
    """Read `captions` and `differences`, write the shard folder `output`; finished shards survive an interruption.

    Raises:
        FileNotFoundError: An input is missing.
        ValueError: A bad row, an id used twice, a pair of unknown images or of one with itself, an empty text, a pattern
            that matches no group, or nothing to pack.
        ChildProcessError: A worker died.
    """
    _check(options)
    output = Path(options.output)
    captions, differences = ([Path(file) for file in files] for files in (options.captions, options.differences))
    manifest = Manifest(
        "shard",
        STEP_VERSION,
        {
            **{f"captions.{place}": file for place, file in enumerate(captions)},
            **{f"differences.{place}": file for place, file in enumerate(differences)},
        },
        {
            name: value
            for name, value in asdict(options).items()
            if name not in ("captions", "differences", "output", "workers") and not (name == "part" and value is None)
        },
    )
    partial = PartialFolder(output)
    with GroupIndex(captions, differences, output) as index:
        groups, used = choose_groups(index, options)
        jobs = plan_shards(groups, options)
        sizes, manifest.inputs["images"] = index.image_hashes(used)
        if partial.is_published(manifest):
            print(f"{output} is up to date")
            return
        plan = {"step_version": STEP_VERSION, "inputs": manifest.inputs, "options": manifest.options}
        partial.begin({**plan, "versions": package_versions()})
        packing = Packing(index.sources, partial, options.resize, options.quality)
        info, unreadable = write_shards(packing, jobs, options.workers)
    if not info.shards:
        shutil.rmtree(partial.folder)
        raise ValueError(f"{output}: not one image could be read, the first because {next(iter(unreadable.values()))}")
    counts = {"groups": info.groups, "images": info.images, "pairs": info.pairs, "unreadable": len(unreadable)}
    manifest.complete(counts, {"unreadable": list(unreadable.values())[:LISTED]})
    partial.publish(info, manifest, {**manifest.inputs, "images": sizes})
    print(
        f"{output}: {info.groups} groups, {info.images} images, {info.pairs} ordered pairs in {len(info.shards)} shards"
    )
    if unreadable:
        print(
            f"{output}: left out {len(unreadable)} images that are unreadable or have changed, listed in the manifest"
        )


def _check(options: Options) -> None:
    for name, least in (("group_size", 1), ("groups_per_shard", 1), ("quality", 1), ("workers", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"shard.{name} must be at least {least}, found {getattr(options, name)}")
    Part.parse(options.part, "shard.part")
    if options.quality > 100:
        raise ValueError(f"shard.quality must be at most 100, found {options.quality}")
    if options.resize is not None and options.resize < 1:
        raise ValueError(f"shard.resize must be at least 1 or null, found {options.resize}")


def choose_groups(index: GroupIndex, options: Options) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Numbers of the groups to pack, in the order of packing, and which images are in them.

    Raises:
        ValueError: A pattern matches no group, or there is nothing to pack.
    """
    chosen = matching_groups(index, options)
    groups, used = np.flatnonzero(chosen), index.images_in(chosen)
    if options.unpaired:
        free = np.flatnonzero(~index.images_in(np.ones_like(chosen)))
        order = np.random.default_rng(options.seed).permutation(len(free))
        more = index.add_unpaired(free[order], options.group_size)
        groups = np.concatenate([groups, index.paired_groups + np.arange(more)])
        used[free] = True
    if not len(groups):
        raise ValueError(
            f"{options.output}: no groups to pack; give `differences`, or set `unpaired: true` for captions alone"
        )
    return groups[np.random.default_rng(options.seed).permutation(len(groups))], used


def matching_groups(index: GroupIndex, options: Options) -> NDArray[np.bool_]:
    """Which groups match `groups_include` and not `groups_exclude`, (groups with pairs,).

    Raises:
        ValueError: A pattern matches no group at all, which is most likely a misspelling.
    """

    def matching(key: str, written: list[str]) -> NDArray[np.bool_]:
        patterns = [pattern for entry in written for pattern in braceexpand(entry)]
        waiting = set(patterns)
        found = np.zeros(index.paired_groups, bool)
        for number, name in enumerate(index.names()):
            hits = [pattern for pattern in patterns if fnmatchcase(name, pattern)]
            waiting.difference_update(hits)
            found[number] = bool(hits)
        if waiting and index.paired_groups:
            pattern = next(pattern for pattern in patterns if pattern in waiting)
            raise ValueError(
                f"shard.{key}: {pattern!r} matches no group; groups are named like {next(index.names())!r}"
            )
        return found

    return matching("groups_include", options.groups_include) & ~matching("groups_exclude", options.groups_exclude)


def plan_shards(groups: NDArray[np.int64], options: Options) -> list[Job]:
    """Return the shards to write: `000000.tar`, `000001.tar`, ..., or those of them that belong to `part`.

    Raises:
        ValueError: `part` has no shard.
    """
    part = Part.parse(options.part, "shard.part")
    size = options.groups_per_shard
    jobs = [
        (f"{number:06d}.tar", start, groups[start : start + size])
        for number, start in enumerate(range(0, len(groups), size))
    ]
    if part.index >= len(jobs):
        raise ValueError(f"shard.part: {options.part} has no shard, there are only {len(jobs)}; use fewer parts")
    return jobs[part.index :: part.count]


def write_shards(packing: Packing, jobs: Sequence[Job], workers: int) -> tuple[DatasetInfo, dict[str, str]]:
    """Write shards, except those that an earlier run has finished.

    Returns:
        What was written, and the reasons of unreadable images by id.
    """
    earlier = {name: done for name, _, _ in jobs if (done := finished_shard(packing.partial, name))}
    remaining = _write_all(packing, [job for job in jobs if job[0] not in earlier], workers)
    info = DatasetInfo(kind="images", group_size=0, images=0, pairs=0, shards=[])
    unreadable: dict[str, str] = {}
    nothing: tuple[int, ...] = ()
    with progress(nothing, desc="shard", unit="group", total=sum(len(numbers) for _, _, numbers in jobs)) as bar:
        for name, _, numbers in jobs:
            done = earlier.get(name) or next(remaining)
            info.group_size = max(info.group_size, done.group_size)
            info.images += done.images
            info.pairs += done.pairs
            info.shards += [done.shard] if done.images else []
            unreadable |= done.unreadable
            bar.update(len(numbers))
    return info, unreadable


def _write_all(packing: Packing, jobs: Sequence[Job], workers: int) -> Iterator[FinishedShard]:
    """Write shards, in order, in as many processes as there are workers."""
    if workers == 0 or len(jobs) < 2:
        yield from (_write(packing, job) for job in jobs)
        return
    with worker_pool(min(workers, len(jobs))) as pool:
        try:
            yield from pool.map(partial(_write, packing), jobs)
        except BrokenProcessPool as error:
            raise ChildProcessError(
                f"{packing.partial.output}: a worker died, perhaps for want of memory; finished shards are kept, run the step "
                "again, with a smaller shard.workers if it happens again"
            ) from error


def _write(packing: Packing, job: Job) -> FinishedShard:
    name, first_key, groups = job
    return write_shard(packing, name, first_key, groups.tolist())
