"""Finding what a run left behind: its configuration and its results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pcclip.metrics.protocol import Result
from pcclip.metrics.tables import read_results


@dataclass(frozen=True)
class Run:
    """What is known of the run that made a model.

    Attributes:
        config_file: The run's `config.yaml`.
        config: Its content.
        results_file: The `results.json` that it names, if there is one.
        results: Model to rows; empty without.
    """

    config_file: Path
    config: dict[str, Any]
    results_file: Path | None
    results: dict[str, list[Result]]


def run_of(source: str | Path) -> Run | None:
    """The run that saved a model folder, the last of several, or that a checkpoint is of; None if none is found.

    A run's folder is looked for beside the model: its `config.yaml` names the folder that it saved the model to.
    """
    path = Path(source)
    if path.suffix == ".ckpt":
        folders = [path.absolute().parent, path.absolute().parent.parent]
        files = [folder / "config.yaml" for folder in folders if (folder / "config.yaml").is_file()][:1]
    else:
        beside = path.absolute().parent
        files = sorted(beside.glob("*/version_*/config.yaml"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        if path.suffix == ".ckpt" or path.name in {
            Path(folder).name for folder in _named(config, "SaveModel", "folder")
        }:
            results_file = next(
                (found for name in _named(config, "ResultsTable", "file") if (found := _near(name, file)) is not None),
                None,
            )
            results = {} if results_file is None else read_results(results_file)
            return Run(file, config, results_file, results)
    return None


def _named(config: Any, callback: str, key: str) -> Iterator[str]:
    """Values of a key of the callbacks of a class."""
    callbacks = (config.get("trainer") or {}).get("callbacks") if isinstance(config, dict) else None
    for each in callbacks or []:
        if isinstance(each, dict) and str(each.get("class_path", "")).endswith(f".{callback}"):
            value = (each.get("init_args") or {}).get(key)
            if isinstance(value, str):
                yield value


def _near(name: str, config_file: Path) -> Path | None:
    """A file that a configuration names, relative to where the run was started: here, or a folder above the run's."""
    for root in (Path(), *config_file.parents):
        if (root / name).is_file():
            return root / name
    return None
