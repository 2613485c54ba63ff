"""Drawing pairs and captions from groups, and joining groups to one batch."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from pcclip.batch import PairBatch
from pcclip.data.format import PairRecord
from pcclip.data.groups import Group, joined
from pcclip.model.text import Tokenizer
from pcclip.roles import has_roles, swap_roles


@dataclass(frozen=True)
class Draw:
    """What is drawn from the groups.

    Attributes:
        groups_per_batch: Groups in a batch, on each rank.
        pairs_per_group: Ordered pairs drawn from each group, new ones each epoch; None for all, in order.
        both_directions: Whether each pair comes with its reverse, half as many unordered pairs being drawn.
        captions_per_group: Captioned images drawn from each group.
        role_swap: Probability that a pair is given as its reverse, with "first" and "second" exchanged in its text.
        role_twins: Give each drawn pair both ways instead, side by side in the batch; half as many are drawn.
        fill: Whether pairs and captions are repeated where a group has too few, so that batches keep one size.
        block: Groups that are shuffled among each other.
        seed: Seed of everything drawn.
    """

    groups_per_batch: int
    pairs_per_group: int | None
    captions_per_group: int
    both_directions: bool = False
    role_swap: float = 0.0
    role_twins: bool = False
    fill: bool = True
    block: int = 1024
    seed: int = 0

    @property
    def needs(self) -> str:
        """What a group must have to be drawn from, for messages."""
        pairs = "pairs in both directions" if self.both_directions else "pairs"
        wanted = [pairs] * (self.pairs_per_group != 0) + ["captions"] * bool(self.captions_per_group)
        return " and ".join(wanted)


def collate(groups: Sequence[Group], draw: Draw, tokenizer: Tokenizer, rng: np.random.Generator) -> PairBatch:
    """Draw pairs and captions from groups and join them to one batch."""
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
        tokens=tokenizer(texts),
        captioned=torch.tensor(captioned, dtype=torch.long),
        caption_tokens=tokenizer(captions),
        roleless=roleless,
    )


def both_ways(pairs: Sequence[PairRecord]) -> list[tuple[PairRecord, PairRecord]]:
    """Each pair that is given in both directions, with its reverse."""
    waiting: defaultdict[tuple[int, int], deque[PairRecord]] = defaultdict(deque)
    couples = []
    for pair in pairs:
        if reverses := waiting[pair["second"], pair["first"]]:
            couples.append((reverses.popleft(), pair))
        else:
            waiting[pair["first"], pair["second"]].append(pair)
    return couples


def _draw_pairs(pairs: Sequence[PairRecord], draw: Draw, rng: np.random.Generator) -> Sequence[PairRecord]:
    """`pairs_per_group` of a group's pairs.

    Pairs are drawn in bundles: a pair alone or with its reverse, each alone or with its twin.
    """
    if draw.pairs_per_group is None:
        return pairs
    if not draw.pairs_per_group:
        return []
    bundles: Sequence[tuple[PairRecord, ...]] = (
        both_ways(pairs) if draw.both_directions else [(pair,) for pair in pairs]
    )
    twins = draw.role_twins
    if twins:
        told_apart = [bundle for bundle in bundles if _have_roles(bundle)]
        bundles, twins = told_apart or bundles, bool(told_apart)
    together = len(bundles[0]) * (2 if twins else 1) if bundles else 1
    chosen = _indices(len(bundles), draw.pairs_per_group // together, rng, draw.fill)
    drawn: list[PairRecord] = []
    # A number for each in any case, so that texts without roles do not shift what is drawn after them.
    for index, number in zip(chosen, rng.random(len(chosen)).tolist(), strict=True):
        bundle = bundles[index]
        if twins:
            drawn += [way for pair in bundle for way in (pair, _exchanged(pair))]
        else:
            # All or none, so that a pair and its reverse stay each other's.
            swapped = number < draw.role_swap and _have_roles(bundle)
            drawn += map(_exchanged, bundle) if swapped else bundle
    return drawn


def _joined_images(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    if not present:
        return None
    storage = None
    if get_worker_info() is not None:  # straight into memory that the trainer sees, to where they would be copied
        storage = torch.UntypedStorage._new_shared(sum(part.numel() for part in present))  # type: ignore[no-untyped-call]
        count, (channels, height, width) = sum(map(len, present)), present[0].shape[1:]
        storage = torch.empty(0, dtype=torch.uint8).set_(storage, 0, (count, height, width, channels))  # type: ignore[call-overload]
    return joined(present, torch.cat, storage)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _indices(available: int, wanted: int, rng: np.random.Generator, fill: bool) -> list[int]:
    """`wanted` of `available` indices; where there are too few all of them, with `fill` and repeats."""
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
