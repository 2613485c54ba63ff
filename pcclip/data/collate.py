"""Draw pairs and captions from groups, and join the groups into a batch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from pcclip.batch import PairBatch
from pcclip.data.groups import Group, joined
from pcclip.data.record import PairRecord, both_ways
from pcclip.model.text import Tokenizer
from pcclip.roles import has_roles, swap_roles

# Roles and negations. A text without these words would say something else of the pair.
MEANINGFUL = re.compile(
    r"\b(first|second|less|not|no|nothing|nobody|none|never|neither|nor|cannot|without|unlike)\b|n['\u2019]t\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Draw:
    """Settings of what is drawn from the groups.

    Attributes:
        groups_per_batch: Groups in a batch of one rank.
        shares: Names of folders, and how many groups of them are in each batch of one rank. Empty: any of all folders.
        pairs_per_group: Ordered pairs drawn from each group; None for all, in order.
        captions_per_group: Captioned images drawn from each group.
        both_directions: Draw each pair together with its reverse.
        role_swap: Probability of replacing a pair by its reverse, with "first" and "second" exchanged in its text.
        role_swap_epochs: Epochs in which this probability rises from zero.
        role_twins: Draw each pair together with that exchanged reverse. The two are neighbours in the batch.
        word_dropout: Probability of dropping each word of a text or caption.
        fill: Repeat pairs and captions of groups that have too few, so that all batches have one size.
        block: Number of groups that are shuffled together.
        seed: Seed of all draws.
    """

    groups_per_batch: int
    pairs_per_group: int | None
    captions_per_group: int
    both_directions: bool = False
    role_swap: float = 0.0
    role_swap_epochs: int = 0
    role_twins: bool = False
    word_dropout: float = 0.0
    fill: bool = True
    shares: tuple[tuple[tuple[str, ...], int], ...] = ()
    block: int = 1024
    seed: int = 0

    def at(self, epoch: int) -> Draw:
        """Return the settings of an epoch."""
        risen = min(1.0, epoch / self.role_swap_epochs) if self.role_swap_epochs else 1.0
        return replace(self, role_swap=risen * self.role_swap)


def collate(groups: Sequence[Group], draw: Draw, tokenizer: Tokenizer, rng: np.random.Generator) -> PairBatch:
    """Draw pairs and captions from groups, and return the batch."""
    first: list[int] = []
    second: list[int] = []
    texts: list[str] = []
    captioned, captions = [], []
    offset = roleless = 0
    for group in groups:
        pairs = _draw_pairs(group.pairs, draw, rng)
        roleless += draw.role_twins and sum(not has_roles(pair["text"]) for pair in group.pairs)
        first += [offset + pair["first"] for pair in pairs]
        second += [offset + pair["second"] for pair in pairs]
        texts += [pair["text"] for pair in pairs]
        intact = group.intact.tolist()
        with_captions = [i for i, own in enumerate(group.captions) if own and intact[i]]
        chosen = _indices(len(with_captions), draw.captions_per_group, rng, draw.fill)
        for index, which in zip(chosen, rng.random(len(chosen)).tolist(), strict=True):
            own = group.captions[with_captions[index]]
            captioned.append(offset + with_captions[index])
            captions.append(own[int(which * len(own))])
        offset += len(group.ids)
    return PairBatch(
        images=_joined_images([group.images for group in groups]),
        embeddings=_joined([group.embeddings for group in groups]),
        image_ids=torch.tensor(
            [_hashed(group.dataset, name) for group in groups for name in group.ids], dtype=torch.long
        ),
        first=torch.tensor(first, dtype=torch.long),
        second=torch.tensor(second, dtype=torch.long),
        tokens=tokenizer(drop_words(texts, draw.word_dropout, rng)),
        captioned=torch.tensor(captioned, dtype=torch.long),
        caption_tokens=tokenizer(drop_words(captions, draw.word_dropout, rng)),
        roleless=roleless,
    )


def drop_words(texts: Sequence[str], probability: float, rng: np.random.Generator) -> Sequence[str]:
    """Drop each word with a probability, but never one that is `MEANINGFUL`. A text that would be empty stays whole.

    Examples:
        >>> drop_words(["The first is not small."], 1.0, np.random.default_rng(0))
        ['first not']
    """
    if not probability:
        return texts
    split = [text.split() for text in texts]
    kept = [
        " ".join(
            word
            for word, number in zip(words, rng.random(len(words)).tolist(), strict=True)
            if number >= probability or MEANINGFUL.search(word)
        )
        for words in split
    ]
    return [part or text for part, text in zip(kept, texts, strict=True)]


def _draw_pairs(pairs: Sequence[PairRecord], draw: Draw, rng: np.random.Generator) -> Sequence[PairRecord]:
    """Draw `pairs_per_group` of a group's pairs. A bundle (a pair, its reverse, their twins) is drawn as a whole."""
    if draw.pairs_per_group is None:
        return pairs
    if not draw.pairs_per_group or not pairs:
        return []
    bundles: Sequence[tuple[PairRecord, ...]] = (
        list(both_ways(pairs)) if draw.both_directions else [(pair,) for pair in pairs]
    )
    twins = draw.role_twins
    if twins:
        with_roles = [bundle for bundle in bundles if _have_roles(bundle)]
        bundles, twins = with_roles or bundles, bool(with_roles)
    together = len(bundles[0]) * (2 if twins else 1) if bundles else 1
    chosen = _indices(len(bundles), draw.pairs_per_group // together, rng, draw.fill)
    drawn: list[PairRecord] = []
    # One random number for each bundle in any case, so that texts without roles do not change later draws.
    for index, number in zip(chosen, rng.random(len(chosen)).tolist(), strict=True):
        bundle = bundles[index]
        if twins:
            drawn += [way for pair in bundle for way in (pair, _exchanged(pair))]
        else:
            # Exchange the whole bundle or nothing, so that a pair and its reverse stay together.
            swapped = number < draw.role_swap and _have_roles(bundle)
            drawn += map(_exchanged, bundle) if swapped else bundle
    return drawn


def _joined_images(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    if not present:
        return None
    storage = None
    if get_worker_info() is not None:  # write directly into shared memory: saves a copy
        storage = torch.UntypedStorage._new_shared(sum(part.numel() for part in present))  # type: ignore[no-untyped-call]
        count, (channels, height, width) = sum(map(len, present)), present[0].shape[1:]
        storage = torch.empty(0, dtype=torch.uint8).set_(storage, 0, (count, height, width, channels))  # type: ignore[call-overload]
    return joined(present, torch.cat, storage)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _indices(available: int, wanted: int, rng: np.random.Generator, fill: bool) -> list[int]:
    """Draw `wanted` of `available` indices. If there are too few, return all, and repeats of them if `fill` is set."""
    if wanted <= available or not fill:
        chosen: list[int] = rng.permutation(available)[:wanted].tolist()
        return chosen
    return [*range(available), *rng.integers(available, size=wanted - available).tolist()]


def _have_roles(pairs: Sequence[PairRecord]) -> bool:
    return all(has_roles(pair["text"]) for pair in pairs)


def _hashed(dataset: str, name: str) -> int:
    digest = hashlib.blake2b(f"{dataset}\0{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _exchanged(pair: PairRecord) -> PairRecord:
    return {"first": pair["second"], "second": pair["first"], "text": swap_roles(pair["text"])}
