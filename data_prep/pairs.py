"""Step `pairs`: deal images into groups of G and draw the pairs of each group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from omegaconf import MISSING

from data_prep.files import Row, read_captions, write_jsonl
from data_prep.manifest import Manifest
from pcclip.data.format import sha256_of

STEP_VERSION = 1


@dataclass
class Options:
    """Options of the step.

    Attributes:
        captions: The `captions.jsonl` whose images are dealt.
        output: The `pairs.jsonl` to write.
        group_size: Images in a group, G.
        rounds: How often all images are dealt anew.
        pairs_per_group: Unordered pairs drawn in a group, at most G(G-1)/2.
        seed: Seed of dealing and drawing.
    """

    captions: str = MISSING
    output: str = MISSING
    group_size: int = 16
    rounds: int = 1
    pairs_per_group: int = 60
    seed: int = 0


def deal(ids: list[str], options: Options) -> Iterator[Row]:
    """Yield the pairs rows, group by group; no unordered pair comes twice over all rounds.

    When the number of images is no multiple of G, the last group of a round is smaller; an image that would be alone
    sits out that round.
    """
    rng = np.random.default_rng(options.seed)
    seen: set[tuple[int, int]] = set()
    for turn in range(options.rounds):
        order = rng.permutation(len(ids))
        for start in range(0, len(ids), options.group_size):
            members = order[start : start + options.group_size].tolist()
            free = [
                (i, j)
                for i, j in combinations(range(len(members)), 2)
                if (min(members[i], members[j]), max(members[i], members[j])) not in seen
            ]
            drawn = rng.permutation(len(free))[: options.pairs_per_group]
            group = f"r{turn}g{start // options.group_size:05d}"
            for i, j in (free[index] for index in sorted(drawn.tolist())):
                if options.rounds > 1:  # a million pairs need not be held in memory when nothing can repeat
                    seen.add((min(members[i], members[j]), max(members[i], members[j])))
                i, j = (j, i) if rng.random() < 0.5 else (i, j)
                yield {
                    "pair_id": f"{group}-{i:02d}-{j:02d}",
                    "group": group,
                    "first": ids[members[i]],
                    "second": ids[members[j]],
                }


def run(options: Options) -> None:
    """Read `captions`, write `output`.

    Raises:
        FileNotFoundError: `captions` is missing.
        ValueError: Fewer than two images, or an option out of range.
    """
    for name, least in (("group_size", 2), ("rounds", 1), ("pairs_per_group", 1)):
        if getattr(options, name) < least:
            raise ValueError(f"pairs.{name} must be at least {least}, found {getattr(options, name)}")
    captions, output = Path(options.captions), Path(options.output)
    ids = [row["id"] for _, row in read_captions(captions)]
    if len(ids) < 2:
        raise ValueError(f"{captions}: {len(ids)} image(s), but a pair needs two")
    manifest = Manifest(
        "pairs",
        STEP_VERSION,
        {"captions": sha256_of(captions)},
        {name: getattr(options, name) for name in ("group_size", "rounds", "pairs_per_group", "seed")},
    )
    if manifest.matches(output):
        print(f"{output} is up to date")
        return
    pairs = write_jsonl(output, deal(ids, options))
    manifest.write(output, {"images": len(ids), "pairs": pairs})
    print(f"{output}: {pairs} pairs of {len(ids)} images")
