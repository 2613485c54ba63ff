"""The search for settings that docs/guides/training.md shows: trials are runs of `pcclip fit`, scored by their results."""

import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import yaml

from pcclip.cli import main
from pcclip.results import read_results

TRAINING = Path(__file__).parents[1] / "docs/guides/training.md"


class RandomSearch:
    """Stands in for Optuna: a study that is its own trial, and draws at random."""

    found: ClassVar[list[tuple[float, float]]] = []  # learning rates and scores

    def __init__(self, direction: str) -> None:
        assert direction == "maximize"

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        self.drawn = random.Random(self.number).uniform(low, high)
        return self.drawn

    def optimize(self, objective: Callable[[Any], float], n_trials: int) -> None:
        for self.number in range(2):
            score = objective(self)
            self.found.append((self.drawn, score))


def test_documented_search_runs(
    tmp_path: Path, shards: Path, tiny_config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    RandomSearch.found.clear()
    task = {"class_path": "pcclip.tasks.DifferenceTexts", "init_args": {"name": "mine", "shards": str(shards)}}
    callbacks = [
        {"class_path": "pcclip.callbacks.Evaluation", "init_args": {"tasks": [task], "resamples": 5}},
        {"class_path": "pcclip.callbacks.ResultsTable", "init_args": {"file": "${run}/results.json"}},
    ]
    trainer = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "logger": False, "callbacks": callbacks}
    data = {"train": [str(shards)], "groups_per_batch": 2, "pairs_per_group": 3, "num_workers": 0}
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.1}}
    model = {"clip": {"name": tiny_config}, "trainable": ["text"], "optimizer": optimizer}
    (tmp_path / "conf").mkdir()
    content = {"trainer": {**trainer, "enable_progress_bar": False}, "model": model, "data": data}
    (tmp_path / "conf" / "mine.yaml").write_text(yaml.safe_dump(content))

    commands: list[list[str]] = []

    def run(command: list[str]) -> None:
        commands.append(command)
        assert main(command[1:]) == 0

    optuna = ModuleType("optuna")
    optuna.create_study = RandomSearch  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "optuna", optuna)
    monkeypatch.setattr(subprocess, "check_call", run)
    (block,) = (
        each for each in re.findall(r"```python\n(.*?)```", TRAINING.read_text(), re.DOTALL) if "optuna" in each
    )
    exec(compile(block, str(TRAINING), "exec"), {})

    for number, (rate, score) in enumerate(RandomSearch.found):
        assert commands[number][-2:] == ["--model.optimizer.init_args.lr", str(rate)]
        rows = read_results(tmp_path / f"runs/search/{number}/results.json")["finetuned"]
        assert score == {row.tag: row.value for row in rows}["difference_texts/mine/forced_choice"]
    assert len(commands) == len(RandomSearch.found) == 2
