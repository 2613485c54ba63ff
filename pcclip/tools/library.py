"""What the page of `pcclip demo` may show: pictures and models that were named, or that lie below a named folder.

A visitor chooses among their names; nothing that a visitor sends is ever taken for a path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import RLock

import torch
from PIL import Image
from torch import Tensor

from pcclip.data.picture_files import COPIES, Skipped, is_picture
from pcclip.data.pictures import decode
from pcclip.model.loading import CONFIG_FILE
from pcclip.tools.attributes import wordings
from pcclip.tools.gallery import Gallery
from pcclip.tools.inference import InferenceModel
from pcclip.tools.search import exact_index, search

SHOWN = 24  # pictures in the order of a ranking, spread evenly over it
FOUND = 8  # pictures that a search shows
THUMBNAIL = 224  # pixels
OF_RUNS, LOG = (CONFIG_FILE, "config.yaml", "results.json"), "events.out.tfevents"  # files of runs and saved models
MODELS, GALLERIES = 4, 16  # that are kept in memory, the latest
Tiles = list[tuple[Image.Image, str]]


class Library:
    """Pictures and models by their names, loaded and embedded when they are first asked for.

    Args:
        pictures: The choices of pictures.
        models: The choices of models.
        load: Loads the model of a name.
        embed: Embeds the pictures of a name by a model.
    """

    def __init__(
        self,
        pictures: list[str],
        models: list[str],
        load: Callable[[str], InferenceModel],
        embed: Callable[[InferenceModel, str], Gallery],
    ) -> None:
        self.pictures, self.models = pictures, models
        self._model = lru_cache(MODELS)(load)
        self._gallery = lru_cache(GALLERIES)(lambda model, pictures: embed(self._model(model), pictures))
        self._one_at_a_time = RLock()  # so that two visitors do not load the same model twice

    def model(self, name: str) -> InferenceModel:
        """Return one of the models.

        Raises:
            ValueError: Not one of them, or it cannot be loaded.
            OSError: A file is missing.
        """
        if name not in self.models:
            raise ValueError(f"{name}: not one of the models of this page")
        with self._one_at_a_time:
            return self._model(name)

    def shown(self, pictures: str, model: str) -> Shown:
        """Return one of the models with some of the pictures; raise as `model` does."""
        if pictures not in self.pictures:
            raise ValueError(f"{pictures}: not among the pictures of this page")
        with self._one_at_a_time:
            return Shown(self.model(model), self._gallery(model, pictures))


@dataclass(frozen=True)
class Shown:
    """A model, and the pictures as it embeds them."""

    model: InferenceModel
    gallery: Gallery

    def ranked(self, more: str, less: str) -> Tiles:
        """Return pictures from most to least. Without an opposite, rank by the one text; without any text, keep their order.

        Raises:
            ValueError: An opposite of nothing, or two equal texts.
        """
        if less.strip() and not more.strip():
            raise ValueError("Fill in the field: the first picture has more of it.")
        if not more.strip() and not less.strip():
            places = _spread(len(self.gallery.pictures))
            return [(self._thumbnail(place), Path(self.gallery.pictures[place].key).name) for place in places]
        axis = self.model.axis(wordings(more, less)) if less.strip() else self.model.embed_texts([more.strip()])[0]
        scores = self.model.scores(self.gallery, axis)
        order = scores.argsort(descending=True, stable=True).tolist()
        return [
            (self._thumbnail(order[rank]), f"{rank + 1}: {scores[order[rank]]:+.3f}") for rank in _spread(len(order))
        ]

    def found(self, picture: Image.Image, text: str, factor: float) -> Tiles:
        """Return the pictures nearest to `picture + factor * text`.

        Raises:
            ValueError: The model's head cannot be undone.
        """
        image = self.model.embed([picture]).embeddings[0]
        shift: Tensor = self.model.shift(self.model.embed_texts([text.strip()])[0]).cpu()
        rows = search(self.gallery, exact_index(self.gallery), image, shift, factor=factor, count=FOUND)
        return [(self._thumbnail(row.index), f"{row.cosine:.3f}") for row in rows]

    def cut(self, *texts: str) -> Iterator[str]:
        """Return what is cut off of texts that are longer than the context."""
        return (cut for text in texts if (cut := self.model.clip.tokenizer.overflow(text)))

    def _thumbnail(self, index: int) -> Image.Image:
        picture = self.gallery.pick(index, THUMBNAIL) or Image.new("RGB", (THUMBNAIL, THUMBNAIL), "grey")
        scale = THUMBNAIL / max(picture.size)
        return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def uploaded(file: str) -> Image.Image:
    """Decode an upload; raise as `pcclip.data.pictures.decode` does."""
    return decode(Path(file).read_bytes(), Path(file).name)


def folders_below(root: str) -> list[str]:
    """Return the folders that hold pictures, the root among them, without those of runs and saved models, which hold charts."""
    return [
        folder
        for folder, names in _below(root)
        if not any(name in OF_RUNS or name.endswith(".ckpt") or name.startswith(LOG) for name in names)
        and any(is_picture(str(Path(folder, name)), Skipped()) for name in names)
    ]


def models_below(root: str) -> list[str]:
    """Return the folders of saved models, and checkpoints."""
    found = []
    for folder, names in _below(root):
        found += [folder] if CONFIG_FILE in names else []
        found += [str(Path(folder, name)) for name in names if name.endswith(".ckpt")]
    return found


def _below(root: str) -> Iterator[tuple[str, list[str]]]:
    """Yield folders with their files. Hidden folders, links and folders of copied pictures are left out."""
    for place, folders, names in os.walk(os.path.normpath(root)):
        folders[:] = [] if COPIES in names else sorted(name for name in folders if not name.startswith("."))
        if COPIES not in names:
            yield place, sorted(names)


def _spread(count: int) -> list[int]:
    places: list[int] = torch.linspace(0, count - 1, min(SHOWN, count)).round().long().tolist()
    return places
