"""What an evaluation task is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from pcclip.metrics.protocol import Metric

if TYPE_CHECKING:
    from pcclip.model.clip import DifferenceCLIP
    from pcclip.tasks.context import Context


class Task(ABC):
    """One evaluation. Its settings are the fields of a dataclass: YAML names it by `class_path`, Python constructs it."""

    kind: ClassVar[str]
    """First part of the names of its results, for example `zero_shot`."""
    final_only: ClassVar[bool] = False
    """Whether the task is costly and measured only before training, at its end and in `test`."""
    name: str

    @property
    def title(self) -> str:
        """Kind and name, for messages."""
        return f"{self.kind} {self.name}"

    @abstractmethod
    def prepare(self) -> None:
        """Read and check all files. It is called before a model is made.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: Files that are damaged or do not fit together.
        """

    def check(self, model: DifferenceCLIP) -> None:  # noqa: B027 (most tasks have nothing to check)
        """Check the files against the model. It is called before the first step, and for each model that is measured.

        Raises:
            ValueError: They do not fit.
        """

    @abstractmethod
    def measure(self, context: Context) -> Iterable[Metric]:
        """Measure the context's model, in evaluation mode and without gradients."""

    def pictures(self, context: Context) -> dict[str, Image.Image]:
        """Return pictures of what the model does, by name. Every process must call it; only the first must return them."""
        return {}
