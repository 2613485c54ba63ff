"""Step `shard`: pack images, captions and difference texts into group shards for training."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le
from braceexpand import braceexpand
from pydantic import PositiveInt

from data_prep.files import EMBEDDING_ROW, Row, image_path
from data_prep.images import StoredImage, encode_image, read_bytes
from data_prep.line_index import GroupIndex, GroupRows, Lines, Mask, Numbers
from data_prep.manifest import Manifest, package_versions
from data_prep.partial import FinishedShard, PartialFolder, dataset_of, embeddings_payload
from data_prep.progress import progress
from data_prep.step import INPUT, UNRECORDED, OutputStep, Workers
from data_prep.workers import in_order
from pcclip.data.format import EMBEDDINGS_EXTENSION, EXTERNAL, EmbeddingInfo
from pcclip.data.pictures import UnreadableImageError
from pcclip.data.record import GroupRecord, PairRecord
from pcclip.data.stored_embeddings import read_row, unit

Job = tuple[str, int, Numbers]  # shard name, key of the first group, numbers of the groups
LISTED = 1000  # unreadable images in the manifest; all are counted


@dataclass(kw_only=True)
class Shard(Workers, OutputStep):
    """Pack images, captions and difference texts into group shards for training."""

    version: ClassVar[int] = 2

    captions: list[str] = field(metadata=INPUT)
    """One or more `captions.jsonl` files. Image ids must be unique over all of them."""
    differences: list[str] = field(default_factory=list, metadata=INPUT)
    """`differences.jsonl` files about those images. None: shards of captions without pairs."""
    groups_include: list[str] = field(default_factory=lambda: ["*"])
    """Shell patterns of group names to include, with ranges like `train{000..039}`."""
    groups_exclude: list[str] = field(default_factory=list)
    """Patterns of group names to exclude. They override `groups_include`."""
    unpaired: bool = False
    """Also include images that are in no pair, in groups without pairs."""
    group_size: PositiveInt = 16
    """Images in a group without pairs."""
    groups_per_shard: PositiveInt = 64
    """Groups per shard. There should be at least as many shards as training has workers."""
    resize: PositiveInt | None = None
    """Maximum longer side of a stored image in pixels. Larger images are shrunk. Null: no limit."""
    quality: Annotated[int, Ge(1), Le(100)] = 90
    """JPEG quality of images that are encoded again."""
    model: str | None = field(default=None, metadata=UNRECORDED)
    """For captions with stored embeddings: the model that made them, named as in `embed.model`, or `external:LABEL` if its
    image tower is not at hand."""
    pretrained: str | None = field(default=None, metadata=UNRECORDED)
    """open_clip's pretrained tag or a weights file for `model`."""
    seed: int = 0
    """Seed of the order of groups."""
    part: str | None = None
    """Pack only every K-th shard, `1/K` to `K/K`. Each machine needs its own `output`; training reads them all."""

    def is_current(self, manifest: Manifest) -> bool:
        """Return False: `make` checks it, since it needs the hashes of the images."""
        return False

    def make(self, manifest: Manifest) -> None:
        """Write the shards that no earlier run has finished, and publish all.

        Raises:
            ValueError: A row is invalid, an image id is used twice or unknown, an image is paired with itself, a text is
                empty, a pattern matches no group, or there is nothing to pack.
            ChildProcessError: A worker died.
        """
        output = Path(self.output)
        captions, differences = ([Path(file) for file in files] for files in (self.captions, self.differences))
        partial = PartialFolder(output)
        with GroupIndex(captions, differences) as index:
            groups, used = choose_groups(index, self)
            jobs = plan_shards(groups, self)
            sizes, manifest.inputs["images"] = index.image_hashes(used)
            embedding = self.embedding(*index.at(int(index.places[used][0])))
            if embedding is not None:  # otherwise neither affects the shards
                tower = {"model": self.model, "pretrained": self.pretrained, "fingerprint": embedding.fingerprint}
                manifest.options |= tower
            if partial.is_published(manifest):
                print(f"{output} is up to date")
                return
            plan = {"step_version": self.version, "inputs": manifest.inputs, "options": manifest.options}
            partial.begin({**plan, "versions": package_versions()})
            width = None if embedding is None else embedding.width
            packing = Packing(captions, differences, partial, self.resize, self.quality, width)
            finished = write_shards(packing, index, jobs, self.workers)
        info = dataset_of(finished, embedding)
        unreadable = {name: reason for done in finished for name, reason in done.unreadable.items()}
        if not info.shards:
            shutil.rmtree(partial.folder)
            raise ValueError(
                f"{output}: not one image could be read, the first because {next(iter(unreadable.values()))}"
            )
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

    def embedding(self, captions: Path, row: Row) -> EmbeddingInfo | None:
        """Return the tower that made the stored embedding of a captions row, or None if the row has a picture.

        Raises:
            ValueError: `model` is missing, has no weights or makes embeddings of another width, or an option is not needed.
        """
        if EMBEDDING_ROW not in row:
            for name in ("model", "pretrained"):
                if getattr(self, name) is not None:
                    raise ValueError(f"shard.{name}: {captions} has pictures; leave it out, or run `embed`")
            return None
        width = len(read_row(image_path(captions, row), row[EMBEDDING_ROW]))
        if self.model is None:
            raise ValueError(
                f"shard.model: {captions} has stored embeddings; name the model that made them, or `{EXTERNAL}LABEL`"
            )
        if self.model.startswith(EXTERNAL):
            if self.pretrained is not None or self.model == EXTERNAL:
                raise ValueError(f"shard.model: `{self.model}` needs a LABEL, and no shard.pretrained")
            return EmbeddingInfo(self.model, width, fingerprint=self.model)
        from data_prep.steps.tower import load_tower  # here: torch is slow to import

        tower = load_tower(self.model, self.pretrained, "shard.model")
        if tower.embed_dim != width or not tower.has_image_tower:
            own = f"of width {tower.embed_dim}" if tower.has_image_tower else "none, since it has no image tower"
            raise ValueError(f"{captions}: embeddings of width {width}, but shard.model {self.model} makes {own}")
        return EmbeddingInfo(self.model, width, tower.image_fingerprint)


def choose_groups(index: GroupIndex, options: Shard) -> tuple[Numbers, Mask]:
    """Return the numbers of the groups to pack, in the order of packing, and which images are in them.

    Raises:
        ValueError: A pattern matches no group, or there is nothing to pack.
    """
    chosen = matching(index, "groups_include", options.groups_include)
    chosen &= ~matching(index, "groups_exclude", options.groups_exclude)
    groups, used = np.flatnonzero(chosen), index.images_in(chosen)
    if options.unpaired:
        free = np.flatnonzero(~index.images_in(np.ones_like(chosen)))
        order = np.random.default_rng(options.seed).permutation(len(free))
        groups = np.concatenate([groups, index.add_unpaired(free[order], options.group_size)])
        used[free] = True
    if not len(groups):
        raise ValueError(
            f"{options.output}: no groups to pack; give `differences`, or set `unpaired: true` for captions alone"
        )
    return groups[np.random.default_rng(options.seed).permutation(len(groups))], used


def matching(index: GroupIndex, option: str, entries: list[str]) -> Mask:
    """Return which groups with differences have names that match a pattern, (groups with differences,).

    Args:
        index: The groups.
        option: Name of the option with the patterns, for the error.
        entries: Shell patterns with ranges.

    Raises:
        ValueError: A pattern matches no group, so it is probably misspelt.
    """
    try:
        patterns = [pattern for entry in entries for pattern in braceexpand(entry)]
    except ValueError as error:
        raise ValueError(f"shard.{option}: {error}; close each brace") from error
    found = np.zeros(len(index.names), bool)
    for pattern in patterns:
        hits = [fnmatchcase(name, pattern) for name in index.names]
        if index.names and not any(hits):
            raise ValueError(f"shard.{option}: {pattern!r} matches no group; groups are named like {index.names[0]!r}")
        found |= np.array(hits, bool)
    return found


def plan_shards(groups: Numbers, options: Shard) -> list[Job]:
    """Return the shards to write: `000000.tar`, `000001.tar`, ..., or those of them that belong to `part`.

    Raises:
        ValueError: `part` has no shard.
    """
    part = options.own_part
    size = options.groups_per_shard
    jobs = [
        (f"{number:06d}.tar", start, groups[start : start + size])
        for number, start in enumerate(range(0, len(groups), size))
    ]
    if part.index >= len(jobs):
        raise ValueError(f"shard.part: {options.part} has no shard, there are only {len(jobs)}; use fewer parts")
    return jobs[part.index :: part.count]


@dataclass(frozen=True)
class Packing:
    """Input files, output folder, image size and JPEG quality; and the width D of stored embeddings, None for images."""

    captions: list[Path]
    differences: list[Path]
    partial: PartialFolder
    resize: int | None
    quality: int
    width: int | None = None

    def write_shard(self, job: tuple[str, int, Sequence[GroupRows]]) -> FinishedShard:
        """Write a shard, given its file name, the key of its first group, and its groups. The other keys follow the first."""
        name, first_key, groups = job
        with self.partial.shard(name) as file, Lines(self.captions) as captions, Lines(self.differences) as differences:
            for key, group in enumerate(groups, start=first_key):
                sources = [captions.at(place) for place in group.images]
                rows = [differences.at(place)[1] for place in group.differences]
                record, images = self.pack(sources, rows, file.written.unreadable)
                if images:
                    members = {f"{place:02d}.{image.extension}": image.payload for place, image in enumerate(images)}
                    if self.width is not None:
                        vectors = [np.frombuffer(image.payload, np.float32) for image in images]
                        members = {EMBEDDINGS_EXTENSION: embeddings_payload(np.stack(vectors))}
                    members["json"] = json.dumps(record, ensure_ascii=False).encode()
                    file.add(f"{key:08d}", members, images=len(images), pairs=len(record["pairs"]))
        return file.written

    def pack(
        self, sources: Sequence[tuple[Path, Row]], rows: Sequence[Row], unreadable: dict[str, str]
    ) -> tuple[GroupRecord, list[StoredImage]]:
        """Return the record and the images of a group, without images that cannot be read or have changed, and their pairs.

        Args:
            sources: Captions file and row of each image.
            rows: Its rows of differences, which determine the order of the images.
            unreadable: Receives the reason of each image that is left out, by id.
        """
        found = {row["id"]: (file, row) for file, row in sources}
        rows = sorted(rows, key=lambda row: row["pair_id"] if "key" in row else "")
        stored: dict[str, StoredImage] = {}
        for name in dict.fromkeys(row[side] for row in rows for side in ("first", "second")) or found:
            file, row = found[name]
            try:
                stored[name] = self._stored(file, row)
            except UnreadableImageError as error:
                unreadable[name] = f"{row['file']}: {error.reason}"
        places = {name: place for place, name in enumerate(stored)}
        pairs: list[PairRecord] = []
        for row in rows:
            if row["first"] in places and row["second"] in places:
                first, second = places[row["first"]], places[row["second"]]
                pairs.append({"first": first, "second": second, "text": row["text"]})
                pairs.append({"first": second, "second": first, "text": row["reverse_text"]})
        images = [found[name][1] for name in stored]
        record: GroupRecord = {
            "images": [{"id": row["id"], "captions": row["captions"]} for row in images],
            "pairs": pairs,
        }
        return record, list(stored.values())

    def _stored(self, captions: Path, row: Row) -> StoredImage:
        path = image_path(captions, row)
        if (EMBEDDING_ROW in row) != (self.width is not None):
            raise ValueError(
                f"{captions}: image {row['id']!r}: stored embeddings and pictures cannot be mixed; make two shard folders"
            )
        if self.width is None:
            payload = read_bytes(path)
            _check_unchanged(path, row, payload)
            return encode_image(payload, row["file"], self.resize, self.quality)
        vector = read_row(path, row[EMBEDDING_ROW])
        _check_unchanged(path, row, vector.tobytes())
        if len(vector) != self.width:
            raise ValueError(
                f"{path}: embeddings of width {len(vector)}, those of other files have width {self.width}; "
                "one image tower must have made all"
            )
        return StoredImage(unit(vector).tobytes(), EMBEDDINGS_EXTENSION)


def _check_unchanged(path: Path, row: Row, payload: bytes) -> None:
    if row.get("sha256") and hashlib.sha256(payload).hexdigest() != row["sha256"]:
        raise UnreadableImageError(str(path), "has changed since the captions step read it")


def write_shards(packing: Packing, index: GroupIndex, jobs: Sequence[Job], workers: int) -> list[FinishedShard]:
    """Write the shards that no earlier run has finished, and return all."""
    earlier = {name: done for name, _, _ in jobs if (done := packing.partial.finished(name))}
    left = [job for job in jobs if job[0] not in earlier]
    items = ((name, key, [index.rows(group) for group in groups.tolist()]) for name, key, groups in left)
    remaining = in_order(packing.write_shard, items, min(workers, len(left)), "shard.workers")
    finished = []
    nothing: tuple[int, ...] = ()
    with progress(nothing, desc="shard", unit="group", total=sum(len(groups) for _, _, groups in jobs)) as bar:
        for name, _, groups in jobs:
            finished.append(earlier.get(name) or next(remaining))
            bar.update(len(groups))
    return finished
