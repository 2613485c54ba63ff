"""Checking one shard: everything that is wrong with it, and what it holds in numbers."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from data_prep.images import check_image, image_header
from data_prep.statistics import Histogram
from pcclip.data.format import EMBEDDINGS_EXTENSION, IMAGE_EXTENSIONS, ShardInfo
from pcclip.data.pictures import UnreadableImageError
from pcclip.data.record import ImageRecord, PairRecord, record_problems
from pcclip.paths import sha256_of

LISTED = 1000  # problems described of one kind in one shard; all are counted
IMAGE_MEMBER = re.compile(rf"(\d{{2,}})\.({'|'.join(IMAGE_EXTENSIONS)})")
HISTOGRAMS = (
    "pairs per group",
    "images per group",
    "captions per image",
    "words per text",
    "tokens per text",
    "words per caption",
    "shorter side of images",
    "longer side of images",
)

CountTokens = Callable[[list[str]], list[int]]


@dataclass(frozen=True)
class Checks:
    """What is checked.

    Attributes:
        folder: The shard folder.
        width: D of embedded shards, None for images.
        decode_every: Decode every n-th image; 0 decodes none.
        tokenizer: open_clip model whose tokenizer counts tokens, or None.
    """

    folder: Path
    width: int | None
    decode_every: int
    tokenizer: str | None


@dataclass
class Findings:
    """What a shard holds and what is wrong with it.

    Attributes:
        problems: Descriptions by kind, at most `LISTED` each.
        problem_counts: How many there are of each kind.
        counts: Groups, images, pairs and what the texts are like.
        histograms: Distributions by name.
        keys: Keys of the groups.
        images: (Id, hash of the stored image) of each image place; no hash in embedded shards.
    """

    problems: dict[str, list[str]] = field(default_factory=dict)
    problem_counts: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    histograms: dict[str, Histogram] = field(default_factory=lambda: {name: Histogram() for name in HISTOGRAMS})
    keys: list[str] = field(default_factory=list)
    images: list[tuple[str, bytes]] = field(default_factory=list)

    def problem(self, kind: str, what: str) -> None:
        """Note something wrong."""
        self.problem_counts[kind] += 1
        listed = self.problems.setdefault(kind, [])
        if len(listed) < LISTED:
            listed.append(what)

    def merge(self, other: Findings) -> None:
        """Add what another shard has, but for its keys and images."""
        for kind, listed in other.problems.items():
            mine = self.problems.setdefault(kind, [])
            mine += listed[: LISTED - len(mine)]
        self.problem_counts.update(other.problem_counts)
        self.counts.update(other.counts)
        for name, histogram in other.histograms.items():
            self.histograms[name].merge(histogram)


@dataclass(frozen=True)
class RawGroup:
    """The members of a group by what follows the key in their names, undecoded."""

    key: str
    members: dict[str, bytes]


def check_shard(checks: Checks, shard: ShardInfo) -> Findings:
    """Check a shard against its entry in `dataset.json`, and every group in it. Nothing in it is unpickled."""
    found = Findings()
    path = checks.folder / shard.name
    if not path.is_file():
        found.problem("missing shard", f"{path}: named in dataset.json, but not there")
        return found
    if path.stat().st_size != shard.bytes:
        found.problem("size", f"{path}: {path.stat().st_size} bytes, dataset.json says {shard.bytes}")
    elif (sha256 := sha256_of(path)) != shard.sha256:
        found.problem("sha256", f"{path}: sha256 is {sha256[:12]}..., dataset.json says {shard.sha256[:12]}...")
    checker = _GroupChecker(checks, path, found)
    try:
        for group in read_groups(path, found):
            found.keys.append(group.key)
            checker.check(group)
    except (tarfile.TarError, OSError, EOFError) as error:
        found.problem("damaged tar", f"{path}: cannot be read on ({error})")
    checker.count_tokens()
    if len(found.keys) != shard.groups:
        found.problem("count", f"{path}: holds {len(found.keys)} groups, dataset.json says {shard.groups}")
    return found


def read_groups(path: Path, found: Findings) -> Iterator[RawGroup]:
    """The groups of a shard in order; members that have no place in one are noted as problems.

    Raises:
        tarfile.TarError, OSError: The shard cannot be read on.
    """
    with tarfile.open(path, "r:") as tar:
        for key, entries in groupby(tar, lambda entry: entry.name.partition(".")[0]):
            members: dict[str, bytes] = {}
            for entry in entries:
                extension = entry.name.partition(".")[2]
                stream = tar.extractfile(entry) if entry.isreg() else None
                if stream is None:
                    found.problem("foreign member", f"{path}: {entry.name} is not a plain file")
                elif extension in members:
                    found.problem("foreign member", f"{path}: {entry.name} is there twice")
                elif extension in ("json", EMBEDDINGS_EXTENSION) or IMAGE_MEMBER.fullmatch(extension):
                    members[extension] = stream.read()
                else:
                    found.problem("foreign member", f"{path}: {entry.name} has no place in a group")
            yield RawGroup(key, members)


class _GroupChecker:
    def __init__(self, checks: Checks, path: Path, found: Findings) -> None:
        self._checks, self._path, self._found = checks, path, found
        self._count = token_counter(checks.tokenizer) if checks.tokenizer else None
        self._texts: list[str] = []

    def check(self, group: RawGroup) -> None:
        where = f"{self._path}: group {group.key}"
        self._found.counts["groups"] += 1
        try:
            record = json.loads(group.members["json"])
        except KeyError as error:
            self._found.problem("group record", f"{where}: has no {error}")
            return
        except (ValueError, RecursionError) as error:
            self._found.problem("group record", f"{where}: not a group record ({error})")
            return
        problems = list(record_problems(record))
        for kind, what in problems:
            self._found.problem(kind, f"{where}: {what}")
        if "group record" in dict(problems):
            return
        images, pairs = record["images"], record["pairs"]
        self._describe_images(images)
        self._describe_pairs(pairs)
        stored: dict[str, bytes] = {}
        if self._checks.width is None:
            hashes = self._check_pictures(where, group, len(images))
        else:
            hashes = [b""] * len(images)
            self._check_embeddings(where, group, len(images), self._checks.width)
        for image, digest in zip(images, hashes, strict=True):
            stored.setdefault(image["id"], digest)
        self._found.images += stored.items()

    def _add(self, histogram: str, value: int) -> None:
        self._found.histograms[histogram].add(value)

    def _describe_images(self, images: list[ImageRecord]) -> None:
        self._found.counts["images"] += len(images)
        self._add("images per group", len(images))
        for image in images:
            self._add("captions per image", len(image["captions"]))
            for text in image["captions"]:
                self._add("words per caption", len(text.split()))

    def _check_pictures(self, where: str, group: RawGroup, count: int) -> list[bytes]:
        """Check the images themselves and return a hash of each."""
        hashes = [b""] * count
        met: set[int] = set()
        for extension, payload in group.members.items():
            match = IMAGE_MEMBER.fullmatch(extension)
            if match is None:
                if extension != "json":
                    self._found.problem("foreign member", f"{where}: {extension} in a shard of images")
                continue
            index = int(match[1])
            if index >= count or index in met:
                reason = "is there twice" if index in met else f"is beyond the {count} images of the record"
                self._found.problem("foreign member", f"{where}: image {index} {reason}")
                continue
            met.add(index)
            hashes[index] = hashlib.sha256(payload).digest()[:16]
            self._check_picture(f"{where}: image {index}", payload, match[2])
        for index in sorted(set(range(count)) - met):
            self._found.problem("missing image", f"{where}: image {index} is not there")
        return hashes

    def _check_picture(self, where: str, payload: bytes, extension: str) -> None:
        every = self._checks.decode_every
        self._found.counts["pictures"] += 1
        try:
            stored_as, size = image_header(payload, where)
            if every and (self._found.counts["pictures"] - 1) % every == 0:
                self._found.counts["decoded images"] += 1
                check_image(payload, where)
        except UnreadableImageError as error:
            self._found.problem("unreadable image", str(error))
            return
        if stored_as != extension.replace("jpeg", "jpg"):
            self._found.problem("foreign member", f"{where}: is called {extension}, but is {stored_as}")
        self._add("shorter side of images", min(size))
        self._add("longer side of images", max(size))

    def _check_embeddings(self, where: str, group: RawGroup, count: int, width: int) -> None:
        for extension in group.members:
            if extension not in ("json", EMBEDDINGS_EXTENSION):
                self._found.problem("foreign member", f"{where}: {extension} in a shard of embeddings")
        try:
            # Not `np.load`, which would open zip archives as well.
            stream = io.BytesIO(group.members[EMBEDDINGS_EXTENSION])
            array = np.lib.format.read_array(stream, allow_pickle=False)
        except KeyError:
            self._found.problem("embeddings", f"{where}: has no {EMBEDDINGS_EXTENSION}")
            return
        except (ValueError, EOFError, OSError) as error:
            self._found.problem("embeddings", f"{where}: {EMBEDDINGS_EXTENSION} cannot be read ({error})")
            return
        if array.dtype.kind != "f" or array.shape != (count, width):
            self._found.problem("embeddings", f"{where}: {array.dtype} {array.shape}, expected floats {(count, width)}")
            return
        values = array.astype(np.float64)
        damaged = np.isnan(values).all(1)
        self._found.counts["damaged images"] += int(damaged.sum())
        for index in np.flatnonzero(~damaged):
            if not np.isfinite(values[index]).all() or not values[index].any():
                self._found.problem(
                    "embeddings", f"{where}: image {index} has values that are not finite, or only zeros"
                )

    def _describe_pairs(self, pairs: list[PairRecord]) -> None:
        self._found.counts["pairs"] += len(pairs)
        self._add("pairs per group", len(pairs))
        texts: dict[tuple[int, int], set[str]] = {}
        for pair in pairs:
            if pair["text"].strip():
                self._describe(pair["text"])
                texts.setdefault((pair["first"], pair["second"]), set()).add(pair["text"])
        for (first, second), said in texts.items():
            reverse = texts.get((second, first))
            self._found.counts["one-way pairs"] += reverse is None
            if reverse and first != second and said & reverse:
                self._found.counts["texts equal to their reverse"] += 1

    def _describe(self, text: str) -> None:
        words = text.split()
        self._add("words per text", len(words))
        named = {word for word in ("first", "second") if re.search(rf"\b{word}\b", text, re.IGNORECASE)}
        self._found.counts["texts that name both"] += len(named) == 2
        self._found.counts["texts that name none"] += not named
        if self._count:
            self._texts.append(text)
            if len(self._texts) == 1024:
                self.count_tokens()

    def count_tokens(self) -> None:
        """Count the tokens of the texts that wait for it."""
        if self._count and self._texts:
            for tokens in self._count(self._texts):
                self._add("tokens per text", tokens)
            self._texts.clear()


def token_counter(model: str) -> CountTokens:
    """A function that counts tokens, start and end included, as the tokenizer of an open_clip model makes them."""
    from open_clip import get_tokenizer  # not needed by those who count no tokens

    tokenizer = get_tokenizer(model)

    def count(texts: list[str]) -> list[int]:
        # Long enough for any text, so that none is cut.
        longest = max(len(text.encode()) for text in texts) + 8
        ids = tokenizer(texts, context_length=longest).numpy()
        padding = ids[:, -1:]
        return [int(length) for length in longest - np.argmax((ids != padding)[:, ::-1], 1)]

    return count


def context_length(model: str) -> int:
    """Length of the texts that the text tower of an open_clip model can read, in tokens."""
    from open_clip import get_tokenizer

    return int(get_tokenizer(model).context_length)
