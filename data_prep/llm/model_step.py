"""What the steps that write a language model's answers have in common."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from data_prep.llm.journal import failures_path
from data_prep.llm.options import ModelOptions
from data_prep.llm.task import Requests
from data_prep.manifest import Manifest
from data_prep.step import OutputStep


@dataclass(kw_only=True)
class ModelStep(ModelOptions, OutputStep):
    """A step whose output is made of a language model's answers, which are kept: a run goes on where the last one ended."""

    @property
    def answers(self) -> Path:
        """The JSON Lines of the answers."""
        return Path(self.output)

    def lock(self) -> AbstractContextManager[None]:
        """Return the lock of the output; a dry run needs none."""
        return nullcontext() if self.dry_run else super().lock()

    def is_current(self, manifest: Manifest) -> bool:
        """Return whether there is nothing to ask."""
        again = self.retry_failed and failures_path(self.answers).exists()
        answers_are_output = self.answers == Path(self.output)
        return manifest.matches(Path(self.output), resumes=answers_are_output) and not again and not self.dry_run

    @abstractmethod
    def requests(self) -> Requests:
        """Return what makes the requests.

        Raises:
            FileNotFoundError: The prompt is missing.
            ValueError: An option or the prompt is invalid.
        """
