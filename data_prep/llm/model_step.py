"""What the steps that write a language model's answers have in common."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from data_prep.llm.ask import ask
from data_prep.llm.journal import failures_path
from data_prep.llm.options import ModelOptions
from data_prep.llm.questions import QuestionList, Requests
from data_prep.manifest import Manifest
from data_prep.step import OutputStep


@dataclass(kw_only=True)
class ModelStep(ModelOptions, OutputStep):
    """A step whose output is made of a language model's answers. They are kept: a run asks only what is still open."""

    backend: str
    """`openai`: a language model behind an endpoint; `batch`: the same by batch files; others ask no model."""

    @property
    def asks_model(self) -> bool:
        """Whether the backend is a language model."""
        return self.backend in ("openai", "batch")

    @property
    def answers(self) -> Path:
        """The JSON Lines of the answers."""
        return Path(self.output)

    def check_options(self) -> None:
        """Check `part`, and the endpoint's options and the prompt where they are used."""
        _ = self.own_part
        if self.asks_model:
            self.requests()

    def lock(self) -> AbstractContextManager[None]:
        """Return the lock of the output; a dry run needs none."""
        return nullcontext() if self.dry_run else super().lock()

    def is_current(self, manifest: Manifest) -> bool:
        """Return whether there is nothing to do."""
        resumes = self.asks_model and self.answers == Path(self.output)
        again = self.asks_model and (self.dry_run or (self.retry_failed and failures_path(self.answers).exists()))
        return manifest.matches(Path(self.output), resumes=resumes) and not again

    @abstractmethod
    def requests(self) -> Requests:
        """Return what makes the requests.

        Raises:
            FileNotFoundError: The prompt is missing.
            ValueError: An option or the prompt is invalid.
        """

    def ask(self, task: QuestionList, manifest: Manifest) -> dict[str, int | float] | None:
        """Ask a task's questions; see `data_prep.llm.ask.ask`."""
        return ask(task, self.requests(), self, self.answers, manifest, batch=self.backend == "batch")
