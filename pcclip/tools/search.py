"""`pcclip search`: the pictures nearest to `image + lambda * difference`.

Exact search multiplies the query with all embeddings. For millions of pictures faiss (extra `search`) builds an approximate
index, which is cached.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.atomic import atomic_path
from pcclip.command_line import need
from pcclip.commands.options import Search
from pcclip.data.embedding_store import EmbeddingStore
from pcclip.data.labelled import ImageFile
from pcclip.paths import existing_file
from pcclip.reports.contact_sheet import TILE, contact_sheet
from pcclip.tools.attributes import wordings
from pcclip.tools.gallery import Gallery
from pcclip.tools.inference import InferenceModel
from pcclip.tools.picture_command import embed, prepare, write_outputs
from pcclip.tools.picture_sources import named_picture

NEIGHBOURS = 32  # edges of each picture in faiss's graph
BUILD_EFFORT, SEARCH_EFFORT = 200, 256


@dataclass(frozen=True)
class Found:
    """A picture that was found: its index in the gallery, its name, and its cosine with the query."""

    index: int
    path: str
    cosine: float


Index = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""From a unit query (D,) and `count` to the cosines and indices (k,) of the nearest embeddings, nearest first; k <= count."""


def run(options: Search) -> None:
    """Search, and write the table and the contact sheet."""
    given = named_picture(options.image)
    existing_file(given.path, "picture of --image")
    output, pictures, model = prepare(options)
    start = model.embed_pictures([given])
    text = model.embed_texts([options.text])[0]
    axis = text if options.reverse is None else model.axis(wordings(options.text, options.reverse))
    shift = model.shift(axis).cpu()
    gallery = embed(options, model, pictures)
    index = _index(options, model, gallery)
    image = start.embeddings[0]
    found = {
        factor: search(gallery, index, image, shift, factor=factor, count=options.count, exclude=[options.image])
        for factor in dict.fromkeys(options.lambdas)
    }
    table = (
        (f"{factor:g}", rank, row.path, f"{row.cosine:.6f}")
        for factor, rows in found.items()
        for rank, row in enumerate(rows, start=1)
    )
    sheet = _sheet(options, start, gallery, found)
    drawn = write_outputs(output, ("lambda", "rank", "path", "cosine"), table, sheet, gallery)
    for factor, rows in found.items():
        print(f"lambda {factor:g}: " + ", ".join(Path(row.path).name for row in rows[:4]))
    print(f"written to {output} and {drawn}")


def _index(options: Search, model: InferenceModel, gallery: Gallery) -> Index:
    if options.engine == "exact":
        return exact_index(gallery)
    need("faiss", "search")
    if options.cache is None:
        return faiss_index(gallery)
    files = [picture for picture in gallery.pictures if isinstance(picture, ImageFile)]
    digest = EmbeddingStore(options.cache, model.clip.image_fingerprint, model.clip.embed_dim).digest(files)
    return faiss_index(gallery, Path(options.cache) / f"{digest}.faiss")


def _sheet(options: Search, start: Gallery, gallery: Gallery, found: dict[float, list[Found]]) -> Image.Image:
    """Draw a row for each lambda: the given picture, then the pictures found."""
    pictures, labels = [], []
    query = start.pick(0, TILE)
    for factor, rows in found.items():
        empty = options.count - len(rows)
        pictures += [query, *(gallery.pick(row.index, TILE) for row in rows), *[None] * empty]
        labels += [f"lambda {factor:g}", *(f"{row.cosine:.3f}" for row in rows), *[""] * empty]
    title = f"the picture on the left, and lambda x: {options.text}"
    return contact_sheet(pictures, labels, title, columns=options.count + 1)


def exact_index(gallery: Gallery) -> Index:
    """Return an index that compares the query with every embedding."""

    def nearest(query: Tensor, count: int) -> tuple[Tensor, Tensor]:
        cosines = torch.cat([chunk @ query for chunk in gallery.chunks()])
        values, places = cosines.topk(min(count, len(cosines)))
        return values, places

    return nearest


def faiss_index(gallery: Gallery, file: Path | None = None) -> Index:
    """Return faiss's HNSW graph. Read it from `file` if that exists, else build it and write it there."""
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
        index: Index of their embeddings.
        image: Unit embedding of the given picture, (D,).
        shift: The wanted difference, (D,).
        factor: Weight lambda of the difference. 0 finds pictures similar to the given one.
        count: Maximum number of results.
        exclude: Names of pictures to leave out, such as the given one.
    """
    query = normalize(image + factor * shift, dim=-1).cpu()
    cosines, places = index(query, count + len(exclude))
    found = [
        Found(place, gallery.pictures[place].key, cosine)
        for place, cosine in zip(places.tolist(), cosines.tolist(), strict=True)
    ]
    return [each for each in found if each.path not in exclude][:count]
