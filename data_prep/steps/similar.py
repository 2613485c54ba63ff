"""Dealing images that are alike into the same group: vectors of their captions' words, and a bisection of any vectors."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer

from data_prep.files import Row, read_captions
from data_prep.progress import progress

WIDTH = 128  # of the vectors that are bisected, whatever made them: half a gigabyte for a million images
SAMPLE = 20_000  # rows that decide the words' weights, or a block's direction: more would change neither much
CHUNK = 1024

Indices = NDArray[np.int64]
Vectors = NDArray[np.float32]


def embed_by_words(captions: Path, chosen: Indices, seed: int) -> Vectors:
    """Unit vectors (N, D) of the chosen rows of `captions` by TF-IDF of their words; D is 128, or the number of words where
    there are few words or images.

    An image without captions has the zero vector.

    Raises:
        ValueError: No caption has a word.
    """
    sample = np.sort(np.random.default_rng(seed).permutation(chosen)[:SAMPLE])
    words = TfidfVectorizer(stop_words="english", sublinear_tf=True, max_features=50_000, dtype=np.float32)
    texts = [_text(row) for rows in chunks(captions, sample) for row in rows]
    try:
        words.fit(texts)
    except ValueError as error:  # no words at all
        raise ValueError(f"{captions}: captions cannot be compared ({error}); use `dealing: random`") from error
    # Fewer texts than the width cannot be reduced to it, and need not be.
    narrow = min(len(words.vocabulary_), len(texts)) > WIDTH
    steps = [words, TruncatedSVD(WIDTH, random_state=seed)] if narrow else [words]
    pipeline: Pipeline = make_pipeline(*steps, Normalizer())
    pipeline.fit(texts)
    vectors = np.zeros((len(chosen), WIDTH if narrow else len(words.vocabulary_)), np.float32)
    start = 0
    for rows in chunks(captions, chosen):
        found: Any = pipeline.transform([_text(row) for row in rows])
        vectors[start : start + len(rows)] = found if isinstance(found, np.ndarray) else found.toarray()
        start += len(rows)
    return vectors


def order(vectors: Vectors, group_size: int, rng: np.random.Generator) -> Indices:
    """Positions of the N vectors, ordered so that each run of G (0 to G-1, G to 2G-1, ...) is alike.

    Blocks are halved along the line between two clusters until one group is left. Where a block is cut, and which two
    members its clusters grow from, is left to chance, so that rounds deal different groups.
    """
    members: Indices = rng.permutation(len(vectors))
    blocks = [(0, len(members))]
    while blocks:
        start, stop = blocks.pop()
        groups = -(-(stop - start) // group_size)
        if groups == 1:
            continue
        block = members[start:stop]
        cut = group_size * int(np.clip(round(groups * rng.uniform(0.35, 0.65)), 1, groups - 1))
        direction = _direction(vectors[block[:: -(-len(block) // SAMPLE)]], rng)
        parts = np.array_split(block, -(-len(block) // SAMPLE))  # so that no large block is copied whole
        along = np.concatenate([vectors[part] @ direction for part in parts])
        members[start:stop] = block[np.argpartition(along, cut)]
        blocks += [(start, start + cut), (start + cut, stop)]
    return members


def _direction(vectors: Vectors, rng: np.random.Generator) -> Vectors:
    """From one to the other of two clusters, found by a few rounds of 2-means from two members."""
    one, other = vectors[rng.choice(len(vectors), 2, replace=False)]
    for _ in range(4):
        along = vectors @ (other - one)
        upper = along > along.mean()
        if upper.all() or not upper.any():  # all alike: any cut is as good
            break
        one, other = vectors[~upper].mean(0), vectors[upper].mean(0)
    direction: Vectors = other - one
    return direction


def _text(row: Row) -> str:
    return " ".join(map(str, row["captions"]))


def chunks(captions: Path, chosen: Indices) -> Iterator[list[Row]]:
    """The chosen rows (ascending positions), in lists of at most `CHUNK`."""

    def rows() -> Iterator[Row]:
        wanted = iter(chosen.tolist())
        position = next(wanted, None)
        for index, (_, row) in enumerate(read_captions(captions)):
            if index == position:
                position = next(wanted, None)
                yield row

    stream = iter(progress(rows(), desc="embed captions", unit="row", total=len(chosen)))
    while chunk := list(islice(stream, CHUNK)):
        yield chunk
