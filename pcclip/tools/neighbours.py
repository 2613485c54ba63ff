"""Retrieval with arithmetic: the pictures nearest to `image + lambda * difference`.

Exact by default: a product with all embeddings, some rows at a time. For millions of pictures there is faiss (extra
`search`), which has an approximate index that is built once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.atomic import atomic_path
from pcclip.tools.gallery import Gallery

NEIGHBOURS = 32  # of each picture in faiss's graph
BUILD_EFFORT, SEARCH_EFFORT = 200, 256


@dataclass(frozen=True)
class Found:
    """A picture that was found: its place in the gallery, its name, and its cosine with what was looked for."""

    index: int
    path: str
    cosine: float


Index = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""Cosines and places (k,) of at most `count` embeddings nearest to a unit query (D,), nearest first."""


def exact_index(gallery: Gallery) -> Index:
    """Return an index that compares with every embedding."""

    def nearest(query: Tensor, count: int) -> tuple[Tensor, Tensor]:
        cosines = torch.cat([chunk @ query for chunk in gallery.chunks()])
        values, places = cosines.topk(min(count, len(cosines)))
        return values, places

    return nearest


def faiss_index(gallery: Gallery, file: Path | None = None) -> Index:
    """Return faiss's HNSW graph, read from `file` if it is there, else built and written to it."""
    import faiss

    if file is not None and file.is_file():
        graph: Any = faiss.read_index(str(file))
    else:
        graph = faiss.IndexHNSWFlat(gallery.embeddings.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = BUILD_EFFORT
        graph.hnsw.efSearch = SEARCH_EFFORT
        for chunk in gallery.chunks():
            graph.add(chunk.numpy())
        if file is not None:
            with atomic_path(file) as path:
                faiss.write_index(graph, str(path))

    def nearest(query: Tensor, count: int) -> tuple[Tensor, Tensor]:
        cosines, places = graph.search(query[None].numpy(), count)
        kept = torch.from_numpy(places[0]) >= 0
        return torch.from_numpy(cosines[0])[kept], torch.from_numpy(places[0])[kept]

    return nearest


def search(
    gallery: Gallery,
    index: Index,
    image: Tensor,
    shift: Tensor,
    *,
    factor: float = 1.0,
    count: int = 10,
    exclude: Sequence[str] = (),
) -> list[Found]:
    """Return the pictures nearest to `image + factor * shift`, nearest first.

    Args:
        gallery: The pictures.
        index: Over their embeddings.
        image: Unit embedding of the picture to start from, (D,).
        shift: The wanted difference, (D,).
        factor: lambda; 0 finds what is like the picture itself.
        count: Maximum number of neighbours.
        exclude: Names of pictures that are not wanted, such as the one to start from.
    """
    query = normalize(image + factor * shift, dim=-1).cpu()
    cosines, places = index(query, count + len(exclude))
    found = [
        Found(place, gallery.pictures[place].key, cosine)
        for place, cosine in zip(places.tolist(), cosines.tolist(), strict=True)
    ]
    return [each for each in found if each.path not in exclude][:count]
