"""Step `pairs`: divide images into groups of G, and draw pairs within each group."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray
from pydantic import PositiveInt

from data_prep.files import Row, read_captions, write_jsonl
from data_prep.line_index import positions
from data_prep.manifest import Manifest
from data_prep.progress import progress
from data_prep.step import INPUT, Made, OutputStep

Indices = NDArray[np.int64]


@dataclass(kw_only=True)
class Pairs(OutputStep):
    """Divide images into groups of G, and draw pairs within each group."""

    version: ClassVar[int] = 1

    captions: str = field(metadata=INPUT)
    """The `captions.jsonl` of the images."""
    group_size: Annotated[int, Ge(2)] = 16
    """Images in a group, G."""
    rounds: PositiveInt = 1
    """Number of times all images are divided into groups. No pair is drawn twice."""
    pairs_per_group: PositiveInt = 60
    """Maximum number of unordered pairs per group, out of G(G-1)/2."""
    seed: int = 0
    """Seed of all random choices."""
    images: Annotated[int, Ge(2)] | None = None
    """Number of images to use, drawn at random. Null: all."""
    all_pairs: bool = False
    """Use every unordered pair of the images once, and ignore `pairs_per_group`. Each of n images is then in about 2n/G
    groups, so larger groups need less space."""
    dealing: Literal["random", "similar"] = "random"
    """How to form groups. `similar` puts similar images into one group, so that differences are about details."""
    model: str | None = None
    """For `similar`: compare images by embeddings of this model, named as in `embed.model`. Null: by TF-IDF of captions."""
    pretrained: str | None = None
    """open_clip's pretrained tag or a weights file for `model`."""
    similar_by: Literal["captions", "images"] = "captions"
    """What `model` embeds: `captions` or `images`."""

    def check_options(self) -> None:
        if self.all_pairs and self.rounds > 1:
            raise ValueError(
                f"pairs.rounds: must be 1 with all_pairs, which uses every pair in one round, found {self.rounds}"
            )
        if self.model is not None and self.dealing != "similar":
            raise ValueError("pairs.model: needs `dealing: similar`; set that, or remove the model")
        if self.model is None and self.similar_by == "images":
            raise ValueError("pairs.similar_by: `images` needs pairs.model, whose image tower embeds them")

    def inputs(self) -> dict[str, str | Path]:
        """Return the captions, and local weights of `model`: they may change under the same name."""
        files = [Path(self.pretrained)] if self.pretrained else []
        if self.model is not None and self.model.startswith("local-dir:"):
            files += sorted(Path(self.model.removeprefix("local-dir:")).glob("*.safetensors"))
        return {**self.input_files(), **{f"model.{file.name}": file for file in files if file.is_file()}}

    def make(self, manifest: Manifest) -> Made:
        captions = Path(self.captions)
        ids = [row["id"] for _, row in read_captions(captions)]
        if len(ids) < 2:
            raise ValueError(f"{captions}: found {len(ids)} images, but a pair needs two")
        chosen = choose(captions, len(ids), self)
        vectors = _embed(captions, chosen, self) if self.dealing == "similar" else None
        ids = [ids[index] for index in chosen.tolist()]
        paired = np.zeros(len(ids), np.bool_)
        rows = (deal_all if self.all_pairs else deal)(ids, self, vectors, paired)
        pairs = write_jsonl(Path(self.output), progress(rows, desc="pairs", unit="pair"))
        images = int(paired.sum())
        rest = f"; {len(ids) - images} others are in no pair" if images < len(ids) else ""
        return Made(
            {"images": images, "unpaired": len(ids) - images, "pairs": pairs},
            message=f"{pairs} pairs of {images} images{rest}",
        )


def choose(captions: Path, total: int, options: Pairs) -> Indices:
    """Return the row indices of the images to use, ascending.

    Raises:
        ValueError: There are fewer than `options.images`.
    """
    if options.images is None:
        return np.arange(total)
    if options.images > total:
        raise ValueError(f"pairs.images: {options.images} is more than the {total} images of {captions}")
    drawn = np.random.default_rng([options.seed, options.images]).choice(total, options.images, replace=False)
    return np.sort(drawn)


def _embed(captions: Path, chosen: Indices, options: Pairs) -> NDArray[np.float32]:
    from data_prep.steps import similar  # scikit-learn and torch are slow to import

    if options.model is None:
        return similar.embed_by_words(captions, chosen, options.seed)
    from data_prep.steps import tower

    return tower.embed_by_model(
        captions,
        chosen,
        name=options.model,
        pretrained=options.pretrained,
        by=options.similar_by,
        seed=options.seed,
    )


def deal(
    ids: list[str],
    options: Pairs,
    vectors: NDArray[np.float32] | None,
    paired: NDArray[np.bool_],
) -> Iterator[Row]:
    """Yield rows of pairs, group by group. No unordered pair occurs twice, over all rounds.

    If G does not divide the number of images, the last group of a round is smaller. An image alone in its group is in no pair
    of that round.

    Args:
        ids: Ids of the N images.
        options: The step.
        vectors: Embeddings of the images, (N, D), to form groups of similar images. None: random groups.
        paired: (N,), set to True for each image in a pair.
    """
    rng = np.random.default_rng(options.seed)
    taken = np.empty(0, np.int64)  # pairs of earlier rounds as sorted keys: 8 bytes per pair
    for turn in range(options.rounds):
        order = _order(len(ids), options, vectors, turn, rng)
        fresh = array("q")
        for start in range(0, len(ids), options.group_size):
            members = order[start : start + options.group_size]
            first, second = _combinations(len(members))
            low, high = np.minimum(members[first], members[second]), np.maximum(members[first], members[second])
            keys = low * len(ids) + high  # one key per unordered pair of indices
            free = np.flatnonzero(positions(taken, keys) < 0)
            drawn = np.sort(free[rng.permutation(len(free))[: options.pairs_per_group]])
            if turn + 1 < options.rounds:  # no pair repeats within a round
                fresh.extend(keys[drawn].tolist())
            group = f"r{turn}g{start // options.group_size:05d}"
            yield from _rows(ids, group, members, first[drawn], second[drawn], rng, paired)
        taken = np.sort(np.concatenate([taken, np.frombuffer(fresh, np.int64)]))


def deal_all(
    ids: list[str],
    options: Pairs,
    vectors: NDArray[np.float32] | None,
    paired: NDArray[np.bool_],
) -> Iterator[Row]:
    """Yield rows of all unordered pairs, in groups of at most G. The arguments are those of `deal`.

    The images are split into k blocks of at most G/2. Every two blocks form a group with all pairs between them. A group of
    consecutive blocks also has the pairs within the first. Each image is in k-1 groups, about 2n/G.
    """
    rng = np.random.default_rng(options.seed)
    order = _order(len(ids), options, vectors, 0, rng)
    if len(ids) <= options.group_size:
        yield from _rows(ids, "r0g00000", order, *_combinations(len(ids)), rng, paired)
        return
    half = options.group_size // 2
    blocks = np.array_split(order, -(-len(ids) // half))
    last = len(blocks) - 1
    group = 0
    for one in range(len(blocks)):
        for other in range(one + 1, len(blocks)):
            members = np.concatenate([blocks[one], blocks[other]])
            size = len(blocks[one])
            first, second = _combinations(len(members))
            wanted = (first < size) & (second >= size)
            if other == one + 1:
                wanted |= second < size
            if one == 0 and other == last:  # the last block has no successor
                wanted |= first >= size
            yield from _rows(ids, f"r0g{group:05d}", members, first[wanted], second[wanted], rng, paired)
            group += 1


def _order(
    total: int, options: Pairs, vectors: NDArray[np.float32] | None, turn: int, rng: np.random.Generator
) -> Indices:
    if vectors is None:
        return rng.permutation(total)
    from data_prep.steps import similar

    return similar.order(vectors, options.group_size, np.random.default_rng([options.seed, turn]))


@lru_cache(maxsize=8)
def _combinations(size: int) -> tuple[Indices, Indices]:
    first, second = np.triu_indices(size, 1)
    return first, second


def _rows(
    ids: list[str],
    group: str,
    members: Indices,
    first: Indices,
    second: Indices,
    rng: np.random.Generator,
    paired: NDArray[np.bool_],
) -> Iterator[Row]:
    """Yield rows of a group's pairs, given as indices into `members`. The order within a pair is random."""
    paired[members[first]] = paired[members[second]] = True
    names = [ids[index] for index in members.tolist()]
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        i, j = (j, i) if rng.random() < 0.5 else (i, j)
        yield {"pair_id": f"{group}-{i:02d}-{j:02d}", "group": group, "first": names[i], "second": names[j]}
