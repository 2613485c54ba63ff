"""Groups of similar images: TF-IDF vectors of captions, and recursive bisection of any vectors."""

from collections.abc import Callable, Iterator
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

WIDTH = 128  # maximum width of the vectors: 0.5 GB for a million images
SAMPLE = 20_000  # rows to fit TF-IDF, or the direction of a cut; more rows change little
CHUNK = 1024  # rows embedded at a time

Indices = NDArray[np.int64]
Vectors = NDArray[np.float32]


def embed_by_words(captions: Path, chosen: Indices, seed: int) -> Vectors:
    """Return unit TF-IDF vectors (N, D) of the captions of chosen rows. An image without captions has the zero vector.

    D is at most 128: more words are reduced by truncated SVD.

    Args:
        captions: The `captions.jsonl`.
        chosen: Indices of rows, ascending.
        seed: Seed of the sample and of the SVD.

    Raises:
        ValueError: No caption has a word.
    """
    sample = np.sort(np.random.default_rng(seed).permutation(chosen)[:SAMPLE])
    words = TfidfVectorizer(stop_words="english", sublinear_tf=True, max_features=50_000, dtype=np.float32)
    texts = [_text(row) for rows in chunks(captions, sample) for row in rows]
    try:
        words.fit(texts)
    except ValueError as error:  # no words
        raise ValueError(f"{captions}: captions cannot be compared ({error}); set `dealing: random`") from error
    narrow = min(len(words.vocabulary_), len(texts)) > WIDTH
    steps = [words, TruncatedSVD(WIDTH, random_state=seed)] if narrow else [words]
    pipeline: Pipeline = make_pipeline(*steps, Normalizer())
    pipeline.fit(texts)

    def embed(rows: list[Row]) -> Vectors:
        found: Any = pipeline.transform([_text(row) for row in rows])
        return found if narrow else found.toarray()

    return embed_in_chunks(captions, chosen, WIDTH if narrow else len(words.vocabulary_), embed)


def embed_in_chunks(captions: Path, chosen: Indices, width: int, embed: Callable[[list[Row]], Vectors]) -> Vectors:
    """Return vectors (N, width) of chosen rows (ascending indices). `embed` gets at most `CHUNK` rows at a time."""
    vectors = (vector for rows in chunks(captions, chosen) for vector in embed(rows))
    return np.fromiter(vectors, np.dtype((np.float32, width)), len(chosen))


def order(vectors: Vectors, group_size: int, rng: np.random.Generator) -> Indices:
    """Return the indices of vectors (N, D) in an order in which each run of G (0 to G-1, G to 2G-1, ...) is similar.

    Blocks are split along the line between two clusters until one group is left. The place of the cut and the initial
    members of the clusters are random, so each round has other groups.
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
        parts = np.array_split(block, -(-len(block) // SAMPLE))  # no copy of a large block
        along = np.concatenate([vectors[part] @ direction for part in parts])
        members[start:stop] = block[np.argpartition(along, cut)]
        blocks += [(start, start + cut), (start + cut, stop)]
    return members


def _direction(vectors: Vectors, rng: np.random.Generator) -> Vectors:
    """Return the direction (D,) between two clusters, found by a few rounds of 2-means."""
    one, other = vectors[rng.choice(len(vectors), 2, replace=False)]
    for _ in range(4):
        along = vectors @ (other - one)
        upper = along > along.mean()
        if upper.all() or not upper.any():  # all equal
            break
        one, other = vectors[~upper].mean(0), vectors[upper].mean(0)
    return other - one


def _text(row: Row) -> str:
    return " ".join(map(str, row["captions"]))


def chunks(captions: Path, chosen: Indices) -> Iterator[list[Row]]:
    """Yield the chosen rows (ascending indices) in lists of at most `CHUNK`."""
    used = np.zeros(chosen[-1] + 1, np.bool_)
    used[chosen] = True
    rows = (row for (_, row), use in zip(read_captions(captions), used, strict=False) if use)
    stream = iter(progress(rows, desc="embed", unit="row", total=len(chosen)))
    while chunk := list(islice(stream, CHUNK)):
        yield chunk
