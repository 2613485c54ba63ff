"""Embedding arithmetic: edits of images, our own or SIMAT's."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from lightning.pytorch.utilities import rank_zero_warn

from pcclip.data.labelled import ImageSet
from pcclip.datasets.edits import read_edits, read_simat, without
from pcclip.datasets.sources import ImageSource, open_images
from pcclip.metrics.arithmetic import LAMBDAS, Edits, arithmetic
from pcclip.metrics.protocol import Metric
from pcclip.tasks.task import Context, Task


@dataclass(kw_only=True)
class EditTask(Task):
    """Edits of images by arithmetic on embeddings (`pcclip.metrics.arithmetic`)."""

    kind: ClassVar[str] = "arithmetic"
    lambdas: list[float] = field(default_factory=lambda: list(LAMBDAS))
    """Factors of the change, each once."""
    difference_template: str | None = None
    """A difference text with `{target}` (what the first image shows) and `{source}` (what the second image shows). Images are
    then also moved by its embedding."""

    @abstractmethod
    def read(self) -> tuple[ImageSet, Edits]:
        """Return the images and the edits."""

    def prepare(self) -> None:
        if not self.lambdas or len(set(self.lambdas)) < len(self.lambdas):
            raise ValueError(f"{self.title}: lambdas {self.lambdas}: give one or more, each once")
        template = self.difference_template
        if template is not None and not ("{target}" in template and "{source}" in template):
            raise ValueError(f'{self.title}: difference_template "{template}": must contain {{target}} and {{source}}')
        self._images, self._edits = self.read()

    def measure(self, context: Context) -> Iterable[Metric]:
        embeddings, kept = context.embed(self._images.images)
        edits, left_out = without(self._edits, kept, len(self._images.images))
        if left_out:
            rank_zero_warn(
                f"{self.title}: excluded {left_out} of {len(self._edits.images)} edits, because their image is damaged or no "
                "intact image is right"
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
    """Labelled images: a folder of class folders, a folder of tars with `classnames.txt`, a dataset of `pcclip.datasets` by
    `class_path`, or a file of `conf/datasets`."""
    edits: str
    """JSON Lines `{"image", "source", "target", "answer"}`; see `pcclip.datasets.edits.read_edits`."""

    def read(self) -> tuple[ImageSet, Edits]:
        images = open_images(self.images)
        return images, read_edits(self.edits, images)


@dataclass(kw_only=True)
class Simat(EditTask):
    """Edits of SIMAT (arXiv 2112.03162)."""

    folder: str
    """The `simat_db` folder with images; see `pcclip.datasets.edits.read_simat`."""
    domain: Literal["dev", "test"] = "test"
    """Split of the edits."""
    oracle: Literal["oscar", "triplets"] = "oscar"
    """Which images are right: by `oscar` similarity as in SIMAT, or by `triplets`, which needs no similarity file and is
    stricter."""

    def read(self) -> tuple[ImageSet, Edits]:
        return read_simat(self.folder, self.domain, self.oracle)
