"""Embedding arithmetic each epoch: edits of images, our own or SIMAT's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from pcclip.callbacks.evaluation import EvaluationCallback
from pcclip.data.labelled import ImageFile
from pcclip.datasets.edits import read_edits, read_simat, without
from pcclip.datasets.sources import ImageSource, open_images
from pcclip.metrics.arithmetic import LAMBDAS, Edits, arithmetic, difference_texts
from pcclip.metrics.protocol import Result


@dataclass
class EditSet:
    """Labelled images and edits of them.

    Attributes:
        images: Folder of class folders, or of tars with `classnames.txt`, or a dataset (`pcclip.datasets.sources.ImageSource`).
        edits: JSON Lines `{"image", "source", "target", "answer"}`; see `pcclip.datasets.edits.read_edits`.
    """

    images: str | ImageSource
    edits: str


@dataclass
class SimatSet:
    """SIMAT.

    Attributes:
        folder: Its `simat_db` with images; see `pcclip.datasets.edits.read_simat`.
        domain: Which half of the edits.
        oracle: What is right: `oscar`, as SIMAT has it, or `triplets`, which needs no similarity file and is stricter.
    """

    folder: str
    domain: Literal["dev", "test"] = "test"
    oracle: Literal["oscar", "triplets"] = "oscar"


class Arithmetic(EvaluationCallback):
    """Measures embedding arithmetic (`pcclip.metrics.arithmetic`).

    Args:
        sets: Name to set; results are named `arithmetic/<name>/<metric>`.
        simat: Name to SIMAT set.
        lambdas: Factors of the change.
        difference_template: A difference text with `{target}`, said of the first image, and `{source}`, of the second; images
            are then also moved by its embedding.
        **settings: When and how to evaluate; see `EvaluationCallback`.
    """

    def __init__(
        self,
        sets: dict[str, EditSet] | None = None,
        simat: dict[str, SimatSet] | None = None,
        lambdas: list[float] | None = None,
        difference_template: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.sets = sets or {}
        self.simat = simat or {}
        if both := sorted(set(self.sets) & set(self.simat)):
            raise ValueError(f"Arithmetic: {both} are in `sets` and in `simat`; give each set a name of its own")
        self.lambdas = lambdas or list(LAMBDAS)
        if difference_template is not None:
            difference_texts(difference_template, [], [])  # refuses one without its places
        self.difference_template = difference_template
        self._prepared: dict[str, tuple[list[ImageFile], Edits]] = {}

    def prepare(self) -> None:
        """List the images and read the edits.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: Anything in them that does not fit together.
        """
        for name, settings in self.sets.items():
            image_set = open_images(settings.images)
            self._prepared[name] = (image_set.images, read_edits(settings.edits, image_set))
        for name, simat in self.simat.items():
            image_set, edits = read_simat(simat.folder, simat.domain, simat.oracle)
            self._prepared[name] = (image_set.images, edits)

    def results(self, trainer: Trainer, pl_module: LightningModule, resamples: int) -> list[Result]:
        """All metrics of all sets."""
        results = []
        for name, (images, edits) in self._prepared.items():
            embeddings, kept = self.embed(trainer, pl_module, images, name)
            judged, left_out = without(edits, kept, len(images))
            if left_out:
                rank_zero_warn(
                    f"{name}: {left_out} of {len(edits.images)} edits have a damaged image or no right one, and are left out"
                )
            results += arithmetic(
                self.encoder(pl_module),
                embeddings,
                judged,
                lambdas=self.lambdas,
                difference_template=self.difference_template,
                subset=name,
                resamples=resamples,
                seed=self.seed,
            )
        return results
