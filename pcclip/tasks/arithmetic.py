"""Embedding arithmetic: edits of images, our own or SIMAT's."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from lightning.pytorch.utilities import rank_zero_warn

from pcclip.data.labelled import ImageSet
from pcclip.datasets.edits import read_edits, read_simat, without
from pcclip.datasets.sources import ImageSource, open_images
from pcclip.metrics.arithmetic import LAMBDAS, Edits, arithmetic, difference_texts
from pcclip.metrics.protocol import Metric
from pcclip.tasks.task import Context, Task


@dataclass(kw_only=True)
class EditTask(Task):
    """Images edited by arithmetic on embeddings (`pcclip.metrics.arithmetic`)."""

    kind: ClassVar[str] = "arithmetic"
    name: str
    """Second part of the names of its results."""
    lambdas: list[float] = field(default_factory=lambda: list(LAMBDAS))
    """Factors of the change."""
    difference_template: str | None = None
    """A difference text with `{target}` (of the first image) and `{source}` (of the second). Images are then also moved by
    its embedding."""

    @abstractmethod
    def read(self) -> tuple[ImageSet, Edits]:
        """Read the images and the edits."""

    def prepare(self) -> None:
        """Read the images and the edits, and check the template."""
        if self.difference_template is not None:
            difference_texts(self.difference_template, [], [])  # raises if it lacks a place
        self._images, self._edits = self.read()

    def measure(self, context: Context) -> Iterable[Metric]:
        """Measure the edits of intact images."""
        embeddings, kept = context.embed(self._images.images)
        edits, left_out = without(self._edits, kept, len(self._images.images))
        if left_out:
            rank_zero_warn(
                f"{self.title}: {left_out} of {len(self._edits.images)} edits have a damaged image or no right one, and "
                "are left out"
            )
        return arithmetic(
            context.encoder,
            embeddings,
            edits,
            lambdas=self.lambdas,
            difference_template=self.difference_template,
            bootstrap=context.bootstrap,
        )


@dataclass(kw_only=True)
class Arithmetic(EditTask):
    """Edits of labelled images."""

    images: str | ImageSource
    """Folder of class folders, or of tars with `classnames.txt`, or a dataset: of `pcclip.datasets` by
    `class_path`, or a file of `conf/datasets`."""
    edits: str
    """JSON Lines `{"image", "source", "target", "answer"}`; see `pcclip.datasets.edits.read_edits`."""

    def read(self) -> tuple[ImageSet, Edits]:
        """Read the images and the edits."""
        images = open_images(self.images)
        return images, read_edits(self.edits, images)


@dataclass(kw_only=True)
class Simat(EditTask):
    """SIMAT's edits (arXiv 2112.03162)."""

    folder: str
    """Its `simat_db` with images; see `pcclip.datasets.edits.read_simat`."""
    domain: Literal["dev", "test"] = "test"
    """Which half of the edits."""
    oracle: Literal["oscar", "triplets"] = "oscar"
    """What is right: `oscar` as in SIMAT, or `triplets`, which needs no similarity file and is stricter."""

    def read(self) -> tuple[ImageSet, Edits]:
        """Read the images and the edits."""
        return read_simat(self.folder, self.domain, self.oracle)
