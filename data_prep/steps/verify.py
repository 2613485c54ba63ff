"""Step `verify`: check the files, records, images and texts of a shard folder, and print statistics."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import NonNegativeInt

from data_prep.parts import hash64
from data_prep.progress import progress
from data_prep.rules.length import TokenCounter
from data_prep.shard_check import Findings, check_shard
from data_prep.step import Step, Workers
from data_prep.workers import in_order
from pcclip.atomic import atomic_text
from pcclip.data.format import DATASET_FILE, DatasetInfo


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
    show: NonNegativeInt = 10
    """Number of problems to print of each kind."""
    report: str | None = None
    """JSON file for all statistics and problems."""

    def work(self) -> None:
        """Check the shards, and print statistics and problems.

        Raises:
            FileNotFoundError: The folder or its `dataset.json` is missing.
            ValueError: `dataset.json` is invalid, or there is a problem. The message lists up to `show` problems of each
                kind.
        """
        folder = Path(self.shards)
        info = DatasetInfo.load(folder)
        found = check_folder(folder, info, self)
        if self.strict:
            for kind in ("one-way pairs", "texts equal to their reverse"):
                if found.counts[kind]:
                    found.problem(kind, f"{folder}: {found.counts[kind]} of {found.counts['pairs']}")
        context = TokenCounter(self.tokenizer).context_length if self.tokenizer else None
        print("\n".join(statistics_lines(folder, info, found, context)))
        if self.report:
            write_report(Path(self.report), found)
        if found.problem_counts:
            raise ValueError(summary(folder, found, self.show))
        print(f"{folder}: nothing is wrong")


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

    def share(name: str) -> str:
        return f"{counts[name]} ({counts[name] / texts:.1%})"

    lines = [
        f"{folder}: {info.kind}, {len(info.shards)} shards, {sum(shard.bytes for shard in info.shards) / 1e6:.1f} MB",
        f"  groups {counts['groups']}, image places {counts['images']} of {counts['different images']} images, "
        f"ordered pairs {counts['pairs']}",
    ]
    lines += [f"  {name}: {distribution(histogram)}" for name, histogram in found.histograms.items() if histogram]
    if context is not None:
        longer = sum(count for tokens, count in found.histograms["tokens per text"].items() if tokens > context)
        lines.append(f"  texts longer than {context} tokens: {longer} ({longer / texts:.1%})")
    lines += [f"  {name}: {share(name)}" for name in ("texts that name both", "texts that name none")]
    lines += [f"  {name}: {share(name)}" for name in ("one-way pairs", "texts equal to their reverse")]
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


def summary(folder: Path, found: Findings, show: int) -> str:
    """Return the problems as text, up to `show` of each kind."""
    lines = [f"{folder}: {found.problem_counts.total()} things are wrong"]
    for kind, count in found.problem_counts.items():
        lines.append(f"{kind}: {count}")
        lines += [f"  {what}" for what in found.problems[kind][:show]]
        if count > show:
            lines.append(f"  and {count - show} more")
    return "\n".join(lines)


def write_report(file: Path, found: Findings) -> None:
    """Write all statistics and problems as JSON."""
    report = {
        "counts": found.counts,
        "histograms": {name: dict(sorted(histogram.items())) for name, histogram in found.histograms.items()},
        "problem_counts": found.problem_counts,
        "problems": found.problems,
    }
    with atomic_text(file) as stream:
        stream.write(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
