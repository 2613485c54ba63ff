"""Step `verify`: check the files, records, images and texts of a shard folder, and print statistics."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import NonNegativeInt

from data_prep.images import check_image, image_header
from data_prep.parts import hash64
from data_prep.progress import progress
from data_prep.rules.length import TokenCounter
from data_prep.step import Step, Workers
from data_prep.workers import in_order
from pcclip.data.damage import REASONS, DamagedGroupError
from pcclip.data.format import DATASET_FILE, EMBEDDINGS_EXTENSION, IMAGE_EXTENSIONS, DatasetInfo, ShardInfo
from pcclip.data.groups import Sample, decode_embeddings
from pcclip.data.pictures import UnreadableImageError
from pcclip.data.record import GroupRecord, record_problems
from pcclip.data.tar_index import TarIndex
from pcclip.paths import sha256_of

SHOWN = 10  # problems described per kind; all are counted
DIRECTIONS = ("one-way pairs", "texts equal to their reverse")
IMAGE_MEMBER = re.compile(rf"(\d{{2,}})\.({'|'.join(IMAGE_EXTENSIONS)})")


@dataclass(kw_only=True)
class Verify(Workers, Step):
    """Check the files, records, images and texts of a shard folder, and print statistics."""

    shards: str
    """The shard folder."""
    decode: NonNegativeInt | None = None
    """Number of images to decode, spread evenly over the shards. Null decodes all, 0 none."""
    tokenizer: str | None = "ViT-B-32"
    """open_clip model whose tokenizer counts the tokens of difference texts. Null: do not count."""
    strict: bool = False
    """Also report pairs without their reverse, and pairs with the same text in both directions."""

    def work(self) -> None:
        """Check the shards, and print statistics and problems.

        Raises:
            FileNotFoundError: The folder or its `dataset.json` is missing.
            ValueError: `dataset.json` is invalid, or there is a problem. The message lists up to `SHOWN` problems of
                each kind.
        """
        folder = Path(self.shards)
        info = DatasetInfo.load(folder)
        found = check_folder(folder, info, self)
        if self.strict:
            for kind in DIRECTIONS:
                if found.counts[kind]:
                    found.problem(kind, f"{folder}: {found.counts[kind]} of {found.counts['pairs']}")
        context = TokenCounter(self.tokenizer).context_length if self.tokenizer else None
        print("\n".join(statistics_lines(folder, info, found, context)))
        if found.problem_counts:
            raise ValueError(summary(folder, found))
        print(f"{folder}: nothing is wrong")


@dataclass
class Findings:
    """Contents and problems of one shard, or of several."""

    problems: dict[str, list[str]] = field(default_factory=dict)
    """Descriptions by kind of problem, at most `SHOWN` each."""
    problem_counts: Counter[str] = field(default_factory=Counter)
    """Number of problems by kind."""
    counts: Counter[str] = field(default_factory=Counter)
    """Numbers of groups, images, pairs and kinds of texts."""
    histograms: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """Integer histograms by name, such as `words per text`."""
    keys: list[str] = field(default_factory=list)
    """Keys of the groups."""
    images: list[tuple[str, bytes]] = field(default_factory=list)
    """Id and hash of each stored image. In embedded shards, the hash is empty."""

    def problem(self, kind: str, what: str) -> None:
        """Add a problem."""
        self.problem_counts[kind] += 1
        listed = self.problems.setdefault(kind, [])
        if len(listed) < SHOWN:
            listed.append(what)

    def merge(self, other: Findings) -> None:
        """Add what another shard has, except its keys and images."""
        for kind, listed in other.problems.items():
            mine = self.problems.setdefault(kind, [])
            mine += listed[: SHOWN - len(mine)]
        self.problem_counts.update(other.problem_counts)
        self.counts.update(other.counts)
        for name, histogram in other.histograms.items():
            self.histograms[name].update(histogram)


def check_folder(folder: Path, info: DatasetInfo, options: Verify) -> Findings:
    """Check every shard, and that shards and `dataset.json` agree."""
    found = Findings()
    shards = info.shards
    named = {DATASET_FILE, *(shard.name for shard in shards)}
    for path in sorted(folder.iterdir()):
        if path.name not in named:
            found.problem("foreign file", f"{path}: not named in {DATASET_FILE}; delete it")
    every = 1 if options.decode is None else -(-info.images // options.decode) if options.decode else 0
    width = None if info.embedding is None else info.embedding.width
    check = partial(check_shard, folder, width, every, options.tokenizer)
    results = in_order(check, shards, min(options.workers, len(shards)), "verify.workers")
    keys: set[int] = set()
    images: dict[int, bytes] = {}
    for shard, one in zip(shards, progress(results, desc="verify", unit="shard", total=len(shards)), strict=True):
        found.merge(one)
        for key in one.keys:
            if hash64(key) in keys:
                found.problem("duplicate key", f"{folder / shard.name}: group {key}: another group has the same key")
            keys.add(hash64(key))
        for name, digest in one.images:
            if images.setdefault(hash64(name), digest) != digest:
                found.problem(
                    "duplicate id", f"{folder / shard.name}: image {name!r}: another group has another image of this id"
                )
    found.counts["different images"] = len(images)
    largest = max(found.histograms["images per group"], default=0)
    for name, said, is_now in (
        ("images", info.images, found.counts["images"]),
        ("pairs", info.pairs, found.counts["pairs"]),
        ("group_size", info.group_size, largest),
    ):
        if said != is_now:
            found.problem("count", f"{folder / DATASET_FILE}: `{name}` is {said}, but the shards have {is_now}")
    if not found.counts["groups"]:
        found.problem("count", f"{folder}: has no group")
    return found


def statistics_lines(folder: Path, info: DatasetInfo, found: Findings, context: int | None) -> list[str]:
    """Return the statistics of the folder as lines."""
    counts, texts = found.counts, max(found.histograms["words per text"].total(), 1)
    lines = [
        f"{folder}: {info.kind}, {len(info.shards)} shards, {sum(shard.bytes for shard in info.shards) / 1e6:.1f} MB",
        f"  groups {counts['groups']}, image places {counts['images']} of {counts['different images']} images, "
        f"ordered pairs {counts['pairs']}",
    ]
    lines += [f"  {name}: {distribution(histogram)}" for name, histogram in found.histograms.items() if histogram]
    if context is not None:
        longer = sum(count for tokens, count in found.histograms["tokens per text"].items() if tokens > context)
        lines.append(f"  texts longer than {context} tokens: {longer} ({longer / texts:.1%})")
    kinds = ("texts that name both", "texts that name none", *DIRECTIONS)
    lines += [f"  {kind}: {counts[kind]} ({counts[kind] / texts:.1%})" for kind in kinds]
    if info.embedding is None:
        lines.append(f"  decoded images: {counts['decoded images']} of {counts['pictures']}")
    else:
        lines.append(f"  embeddings of width {info.embedding.width}, {counts['damaged images']} of damaged images")
    return lines


def distribution(histogram: Counter[int]) -> str:
    """Return mean, median, 95 % quantile, minimum and maximum of a histogram that is not empty, in words."""
    values, counts = np.array(sorted(histogram.items())).T
    median, high = values[np.searchsorted(counts.cumsum(), np.array([0.5, 0.95]) * counts.sum())]
    mean = np.average(values, weights=counts)
    return f"mean {mean:.1f}, median {median}, 95 % up to {high}, {values[0]} to {values[-1]}"


def summary(folder: Path, found: Findings) -> str:
    """Return the problems as text, up to `SHOWN` of each kind."""
    lines = [f"{folder}: {found.problem_counts.total()} things are wrong"]
    for kind, count in found.problem_counts.items():
        lines.append(f"{kind}: {count}")
        lines += [f"  {what}" for what in found.problems[kind]]
        if count > SHOWN:
            lines.append(f"  and {count - SHOWN} more")
    return "\n".join(lines)


def check_shard(
    folder: Path, width: int | None, decode_every: int, tokenizer: str | None, shard: ShardInfo
) -> Findings:
    """Check a shard against its entry in `dataset.json`, and every group in it. Nothing in it is unpickled.

    Args:
        folder: The shard folder.
        width: Width D of embedded shards, None for shards of images.
        decode_every: Decode every n-th image; 0 disables decoding.
        tokenizer: Model whose tokenizer counts the tokens of texts, or None.
        shard: Its entry in `dataset.json`.
    """
    found = Findings()
    path = folder / shard.name
    if not path.is_file():
        found.problem("missing shard", f"{path}: named in dataset.json, but not there")
        return found
    if path.stat().st_size != shard.bytes:
        found.problem("size", f"{path}: {path.stat().st_size} bytes, dataset.json says {shard.bytes}")
    elif (sha256 := sha256_of(path)) != shard.sha256:
        found.problem("sha256", f"{path}: sha256 is {sha256[:12]}..., dataset.json says {shard.sha256[:12]}...")
    count_tokens = TokenCounter(tokenizer).count if tokenizer else None
    with TarIndex(path) as tar:
        if tar.damage != "truncated":
            found.problem("damaged tar", f"{path}: {REASONS[tar.damage]}")
        for place, entry in enumerate(tar.entries):
            where = f"{path}: group {entry.key}"
            for extension, reason in entry.lost.items():
                kind = "foreign member" if reason == "foreign_member" else "damaged tar"
                found.problem(kind, f"{where}: {extension}: {REASONS[reason]}")
            try:
                sample = Sample(where, entry.key, tar.read(place))
            except DamagedGroupError as error:
                found.problem("duplicate key" if error.reason == "duplicate_key" else "damaged tar", str(error))
                continue
            found.keys.append(entry.key)
            found.counts["groups"] += 1
            record = check_record(sample, found)
            if record is None:
                continue
            describe_group(record, found, count_tokens)
            hashes: dict[int, bytes] = {}
            if width is None:
                hashes = check_pictures(sample, len(record["images"]), decode_every, found)
            else:
                check_embeddings(sample, len(record["images"]), width, found)
            stored: dict[str, bytes] = {}
            for index, image in enumerate(record["images"]):
                stored.setdefault(image["id"], hashes.get(index, b""))
            found.images += stored.items()
        if len(tar.entries) != shard.groups:
            found.problem("count", f"{path}: holds {len(tar.entries)} groups, dataset.json says {shard.groups}")
    return found


def check_record(sample: Sample, found: Findings) -> GroupRecord | None:
    """Check the JSON member of a group. Return None if it is not a group record."""
    try:
        record: Any = json.loads(sample.members["json"])
    except KeyError as error:
        found.problem("group record", f"{sample.where}: has no {error}")
        return None
    except (ValueError, RecursionError) as error:
        found.problem("group record", f"{sample.where}: not a group record ({error})")
        return None
    problems = list(record_problems(record))
    for kind, what in problems:
        found.problem(kind, f"{sample.where}: {what}")
    return None if "group record" in dict(problems) else record


def check_pictures(sample: Sample, count: int, decode_every: int, found: Findings) -> dict[int, bytes]:
    """Check the stored images of a group, and return their hashes by index. `count` is the number of images it must have."""
    hashes: dict[int, bytes] = {}
    for extension, payload in sample.members.items():
        match = IMAGE_MEMBER.fullmatch(extension)
        if match is None:
            if extension != "json":
                found.problem("foreign member", f"{sample.where}: {extension} has no place in a group of images")
            continue
        index = int(match[1])
        where = f"{sample.where}: image {index}"
        if index >= count or index in hashes:
            reason = "is there twice" if index in hashes else f"is beyond the {count} images of the record"
            found.problem("foreign member", f"{where}: {reason}")
            continue
        hashes[index] = hashlib.sha256(payload).digest()[:16]
        found.counts["pictures"] += 1
        try:
            stored_as, size = image_header(payload, where)
            if decode_every and (found.counts["pictures"] - 1) % decode_every == 0:
                found.counts["decoded images"] += 1
                check_image(payload, where)
        except UnreadableImageError as error:
            found.problem("unreadable image", str(error))
            continue
        if stored_as != match[2].replace("jpeg", "jpg"):
            found.problem("foreign member", f"{where}: is called {match[2]}, but is {stored_as}")
        found.histograms["shorter side of images"][min(size)] += 1
        found.histograms["longer side of images"][max(size)] += 1
    for index in sorted(set(range(count)) - set(hashes)):
        found.problem("missing image", f"{sample.where}: image {index} is not there")
    return hashes


def check_embeddings(sample: Sample, count: int, width: int, found: Findings) -> None:
    """Check the embeddings of a group, which must be (count, width)."""
    for extension in sample.members:
        if extension not in ("json", EMBEDDINGS_EXTENSION):
            found.problem("foreign member", f"{sample.where}: {extension} has no place in a group of embeddings")
    if EMBEDDINGS_EXTENSION not in sample.members:
        found.problem("embeddings", f"{sample.where}: has no {EMBEDDINGS_EXTENSION}")
        return
    try:
        values = decode_embeddings(sample, count).numpy()
    except DamagedGroupError as error:
        found.problem("embeddings", str(error))
        return
    if values.shape[1] != width:
        found.problem("embeddings", f"{sample.where}: has embeddings of width {values.shape[1]}, expected {width}")
        return
    damaged = np.isnan(values).all(1)
    found.counts["damaged images"] += int(damaged.sum())
    for index in np.flatnonzero(~damaged & ~(np.isfinite(values).all(1) & values.any(1))):
        found.problem("embeddings", f"{sample.where}: image {index} has values that are not finite, or only zeros")


def describe_group(record: GroupRecord, found: Findings, count_tokens: Callable[[str], int] | None) -> None:
    """Count the images, pairs and words of a group, pairs without their reverse, and pairs with the same text both ways."""
    images, pairs = record["images"], record["pairs"]
    found.counts.update({"images": len(images), "pairs": len(pairs)})
    histograms = found.histograms
    histograms["pairs per group"][len(pairs)] += 1
    histograms["images per group"][len(images)] += 1
    histograms["captions per image"].update(len(image["captions"]) for image in images)
    histograms["words per caption"].update(len(text.split()) for image in images for text in image["captions"])
    texts = [pair["text"] for pair in pairs if pair["text"].strip()]
    histograms["words per text"].update(len(text.split()) for text in texts)
    if count_tokens is not None:
        histograms["tokens per text"].update(map(count_tokens, texts))
    for text in texts:
        named = {word.lower() for word in re.findall(r"\b(?:first|second)\b", text, re.IGNORECASE)}
        found.counts.update({"texts that name both": len(named) == 2, "texts that name none": not named})
    said: dict[tuple[int, int], set[str]] = {}
    for pair in pairs:
        if pair["text"].strip():
            said.setdefault((pair["first"], pair["second"]), set()).add(pair["text"])
    for (first, second), forward in said.items():
        backward = said.get((second, first))
        found.counts["one-way pairs"] += backward is None
        found.counts["texts equal to their reverse"] += first != second and bool(backward and forward & backward)
