"""A logger that only keeps names, as loggers of services do: its runs are called by a word, below a project."""

from typing import Any

from lightning.pytorch.loggers.logger import Logger


class NamedRuns(Logger):
    """Has another argument for the name than Lightning's own loggers."""

    def __init__(self, directory: str, project: str, version: str | None = None) -> None:
        super().__init__()
        self._directory, self._project, self._version = directory, project, version

    @property
    def save_dir(self) -> str:
        return self._directory

    @property
    def name(self) -> str:
        return self._project

    @property
    def version(self) -> str:
        return self._version or "brave-fox"

    def log_metrics(self, metrics: Any, step: int | None = None) -> None: ...

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None: ...


class NumberedRuns(NamedRuns):
    """Takes no version, so that its runs cannot be continued."""

    def __init__(self, directory: str, project: str) -> None:
        super().__init__(directory, project)
