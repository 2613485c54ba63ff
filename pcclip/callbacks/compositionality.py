"""Choice between captions and hard negatives each epoch, on any number of SugarCrepe's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from pcclip.callbacks.evaluation import EvaluationCallback
from pcclip.data.labelled import ImageFile, read_images
from pcclip.datasets.sugarcrepe import CaptionChoice, read_caption_choices
from pcclip.metrics.compositionality import compositionality
from pcclip.metrics.protocol import Result

REMEDY = "for SugarCrepe, download COCO's val2017.zip (cocodataset.org) and unpack it there as a whole"


@dataclass
class CompositionalitySet:
    """Images, and choices between two captions of each.

    Attributes:
        images: Folder that holds all images that the files name; for SugarCrepe COCO's `val2017`.
        captions: JSON file in SugarCrepe's layout, or a folder of them; see `pcclip.datasets.sugarcrepe`.
    """

    images: str
    captions: str


@dataclass
class _Prepared:
    choices: list[CaptionChoice]
    images: list[ImageFile]
    image_of: list[int]


class Compositionality(EvaluationCallback):
    """Measures compositionality (`pcclip.metrics.compositionality`).

    Args:
        sets: Name to set; results are named `compositionality/<name>/<file>/accuracy`, without `<file>` if it is one file.
        **settings: When and how to evaluate; see `EvaluationCallback`.
    """

    def __init__(
        self,
        sets: dict[str, CompositionalitySet],
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.sets = sets
        self._prepared: dict[str, _Prepared] = {}

    def prepare(self) -> None:
        """Read the captions and find their images.

        Raises:
            FileNotFoundError: A file or an image is missing.
            ValueError: A file that is not in SugarCrepe's layout.
        """
        self._prepared = {}
        for name, settings in self.sets.items():
            if not Path(settings.images).exists():
                raise FileNotFoundError(f"{settings.images}: images of {name} not found; {REMEDY}")
            files = {image.key: image for image in read_images(settings.images).images}
            for stem, choices in read_caption_choices(settings.captions).items():
                subset = name if settings.captions.endswith(".json") else f"{name}/{stem}"
                self._prepared[subset] = _prepare(subset, choices, files, settings.images)

    def results(self, trainer: Trainer, pl_module: LightningModule, resamples: int) -> list[Result]:
        """All metrics of all sets; choices of damaged images are left out."""
        results = []
        for subset, prepared in self._prepared.items():
            embeddings, kept = self.embed(trainer, pl_module, prepared.images, subset)
            place = {old: new for new, old in enumerate(kept)}
            rows = [row for row, image in enumerate(prepared.image_of) if image in place]
            results += compositionality(
                self.encoder(pl_module),
                embeddings,
                torch.tensor([place[prepared.image_of[row]] for row in rows]),
                [prepared.choices[row].caption for row in rows],
                [prepared.choices[row].negative for row in rows],
                subset=subset,
                resamples=resamples,
                seed=self.seed,
            )
        return results


def _prepare(subset: str, choices: list[CaptionChoice], files: dict[str, ImageFile], folder: str) -> _Prepared:
    names = list(dict.fromkeys(choice.filename for choice in choices))
    if missing := [name for name in names if name not in files]:
        raise FileNotFoundError(
            f"{folder}: {len(missing)} of {len(names)} images of {subset} are missing: {missing[:5]}; {REMEDY}"
        )
    place = {name: index for index, name in enumerate(names)}
    return _Prepared(choices, [files[name] for name in names], [place[choice.filename] for choice in choices])
