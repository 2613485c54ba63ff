"""The pictures and models of `pcclip demo`: those that were named, and those below a named folder.

A visitor chooses among their names. Nothing that a visitor sends is used as a path.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from threading import RLock

from PIL import Image

from pcclip.data.picture_files import Skipped, is_picture, walk
from pcclip.data.pictures import decode
from pcclip.model.loading import CONFIG_FILE
from pcclip.tools.demo_answers import Shown
from pcclip.tools.gallery import Gallery
from pcclip.tools.inference import InferenceModel

OF_RUNS, LOG = (CONFIG_FILE, "config.yaml", "results.json"), "events.out.tfevents"  # files of runs and saved models
MODELS, GALLERIES = 4, 16  # kept in memory, the most recently used


class Library:
    """Pictures and models by their names, loaded and embedded on first use.

    Args:
        pictures: Names of the sets of pictures.
        models: Names of the models.
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
        self._one_at_a_time = RLock()  # two visitors must not load the same model twice

    def model(self, name: str) -> InferenceModel:
        """Return a model by name, loaded on first use.

        Raises:
            ValueError: The page has no such model, or the model cannot be loaded.
            OSError: A file is missing.
        """
        if name not in self.models:
            raise ValueError(f"{name}: not one of the models of this page")
        with self._one_at_a_time:
            return self._model(name)

    def shown(self, pictures: str, model: str) -> Shown:
        """Return a model and a set of pictures by name. Raises as `model`."""
        if pictures not in self.pictures:
            raise ValueError(f"{pictures}: not among the pictures of this page")
        with self._one_at_a_time:
            return Shown(self.model(model), self._gallery(model, pictures))


def uploaded(file: str) -> Image.Image:
    """Decode an upload. Raises as `pcclip.data.pictures.decode`."""
    return decode(Path(file).read_bytes(), Path(file).name)


def folders_below(root: str) -> list[str]:
    """Return the folders that hold pictures, including the root. Skip runs and saved models, whose pictures are charts."""
    return [
        folder
        for folder, names in walk(os.path.normpath(root), Skipped(), links=False)
        if not any(name in OF_RUNS or name.endswith(".ckpt") or name.startswith(LOG) for name in names)
        and any(is_picture(str(Path(folder, name)), Skipped()) for name in names)
    ]


def models_below(root: str) -> list[str]:
    """Return the folders of saved models and the checkpoint files below a folder."""
    found = []
    for folder, names in walk(os.path.normpath(root), Skipped(), links=False):
        found += [folder] if CONFIG_FILE in names else []
        found += [str(Path(folder, name)) for name in names if name.endswith(".ckpt")]
    return found
