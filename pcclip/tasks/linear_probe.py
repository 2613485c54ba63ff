"""Linear probes on frozen image embeddings."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import sklearn

from pcclip.datasets.sources import ImageSource
from pcclip.metrics.linear_probe import VERSION, check_training_labels, linear_probe
from pcclip.metrics.protocol import Metric
from pcclip.tasks.classes import ClassTask, read_labelled
from pcclip.tasks.task import Context


@dataclass(kw_only=True)
class LinearProbe(ClassTask):
    """Linear probes (`pcclip.metrics.linear_probe`), fitted on `images` and tested on `test`.

    Probes use image embeddings only, so they are fitted once for each image tower. With a `cache_dir`, models that share an
    image tower share the probes.
    """

    kind: ClassVar[str] = "linear_probe"
    final_only: ClassVar[bool] = True
    test: str | ImageSource
    """Test images with the same class names; see `images`."""
    shots: list[int] = field(default_factory=list)
    """Also fit on these numbers of training images of each class."""
    draws: int = 3
    """Number of random draws of these images."""
    full: bool = True
    """Fit on all training images."""

    def prepare(self) -> None:
        if not (self.full or self.shots) or self.draws < 1:
            raise ValueError(f"{self.title}: nothing to fit; give `full` or `shots`, and one draw or more")
        self._train = self.labelled()
        # labels index one list of classes: the test images get that of the training images
        classes = self._train.classes
        self._test = read_labelled(self.title, self.test, (classes, f"{self.title}, `images`"))
        chosen = self.classes is not None or self.table is not None
        if not chosen and (extra := sorted(set(self._test.known) - set(classes))):
            raise ValueError(f"{self.test}: classes {extra[:5]} are not in {self.images}; choose some with `classes`")
        try:
            check_training_labels(self._train.labels, classes, self.shots, self.full)
        except ValueError as error:
            raise ValueError(f"{self.title}: {error}") from error

    def measure(self, context: Context) -> Iterable[Metric]:
        train, kept_train = context.embed(self._train.images)
        test, kept_test = context.embed(self._test.images)
        tensors = (train, self._train.labels[kept_train], test, self._test.labels[kept_test])
        classes, how = self._train.classes, {"shots": self.shots, "draws": self.draws, "full": self.full}
        versions = [VERSION, sklearn.__version__, context.bootstrap.resamples, context.bootstrap.seed]

        def fit() -> list[Metric]:
            return linear_probe(
                *tensors, classes, shots=self.shots, draws=self.draws, full=self.full, bootstrap=context.bootstrap
            )

        return context.kept.get(tensors, [self.kind, versions, classes, how], fit, store=context.store)
