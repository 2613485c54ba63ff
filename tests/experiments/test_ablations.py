"""The grid of finetuning runs: each run once, its table, and what is refused."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml

from pcclip.cli import main as pcclip
from pcclip.experiments import ablations
from pcclip.experiments.__main__ import main
from pcclip.experiments.ablations import command, read_experiment
from pcclip.training_cli import PairCLI

ROOT = Path(__file__).parents[2]

SECTION: dict[str, Any] = {
    "fit": "conf/fit.yaml",
    "settings": {},
    "seeds": [0, 1],
    "prepare": [],
    "models": ["finetuned"],
    "columns": {"top": "zero_shot/shape/top1", "choice": "difference_texts/demo/forced_choice"},
    "plot": ["top", "choice"],
    "cells": {"as shipped": None, "Scale 1": {"model.logit_scale": 1, "data.role_swap": "twins"}},
}


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "fit.yaml").write_text("trainer: {}\n")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump({"demo": SECTION}, sort_keys=False))
    return file


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """In place of `pcclip fit`: notes its arguments and writes results that depend on them; scale 13 fails."""
    calls: list[list[str]] = []

    def fit(arguments: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        calls.append(arguments[3:])
        if "--model.logit_scale=13" in arguments:
            return subprocess.CompletedProcess(arguments, 1)
        seed = int(next(a for a in arguments if a.startswith("--seed")).split("=")[1])
        scale_1 = "--model.logit_scale=1" in arguments
        models = {"base": 0.2, "finetuned": 0.6 if scale_1 else 0.8} | ({} if scale_1 else {"ensembled 0.5": 0.4})
        rows = [
            {"model": model, "task": task, "subset": subset, "metric": metric, "value": value + seed / 10, "n": 9}
            | {"low": 0.0, "high": 1.0, "alpha": {"base": 0, "finetuned": 1}.get(model, 0.5)}
            for model, value in models.items()
            for task, subset, metric in [path.split("/") for path in SECTION["columns"].values()]
        ]
        Path(arguments[-1].removeprefix("--run="), "results.json").write_text(json.dumps(rows))
        return subprocess.CompletedProcess(arguments, 0)

    monkeypatch.setattr(ablations.subprocess, "run", fit)
    return calls


def test_each_run_once_and_a_table_of_all(grid: Path, ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablations", str(grid), "demo", "--settings={trainer.max_steps: 2}"]) == 0
    assert len(ran) == 4
    assert ran[1] == [
        *("fit", "--config", "conf/fit.yaml", "--seed_everything=0", "--model.logit_scale=1"),
        *("--data.role_swap=twins", "--trainer.max_steps=2", "--resume=true", "--run=runs/ablations/demo/scale_1-0"),
    ]
    document = Path("docs/results/ablations.md").read_text()
    assert "| *base* | 0.250 [0.200, 0.300] | 0.250 [0.200, 0.300] | 2 |" in document
    assert "| as shipped | 0.850 [0.800, 0.900] | 0.850 [0.800, 0.900] | 2 |" in document
    assert "| Scale 1 | 0.650 [0.600, 0.700] |" in document
    assert "images/ablations_demo.png" in document
    for picture in ("ablations_demo.png", "ablations_demo_cells.png"):
        assert picture in document
        assert Path("docs/images", picture).stat().st_size > 1000
    assert "Not run" not in document

    assert main(["ablations", str(grid), "demo", "--settings={trainer.max_steps: 2}"]) == 0
    assert len(ran) == 4  # all were done
    section = SECTION | {"cells": {**SECTION["cells"], "Scale 1": {"model.logit_scale": 13}}}
    grid.write_text(yaml.safe_dump({"demo": section}, sort_keys=False))
    assert (
        main(["ablations", str(grid), "demo", "--settings={trainer.max_steps: 2}"]) == 2
    )  # other settings: run again, and these fail
    assert len(ran) == 6
    assert "scale_1-0, scale_1-1" in capsys.readouterr().err
    document = Path("docs/results/ablations.md").read_text()
    assert "| Scale 1 |" not in document
    assert "Not run, or not with all 2 seeds: Scale 1." in document
    assert main(["ablations", str(grid), "demo", "--seeds=[]"]) == 0  # writes only
    assert len(ran) == 6


def test_a_stopped_run_resumes_unless_its_settings_are_others(grid: Path, ran: list[list[str]]) -> None:
    def run(scale: int) -> int:
        section = SECTION | {"cells": {"as shipped": None, "scale": {"model.logit_scale": scale}}, "seeds": [0]}
        grid.write_text(yaml.safe_dump({"demo": section}, sort_keys=False))
        return main(["ablations", str(grid), "demo"])

    assert run(13) == 2
    checkpoint = Path("runs/ablations/demo/scale-0/last.ckpt")
    checkpoint.touch()
    assert run(13) == 2
    assert checkpoint.exists()
    assert run(1) == 0
    assert not checkpoint.exists()
    assert len(ran) == 4
    assert all("--resume=true" in arguments for arguments in ran)


def test_settings_of_all_cells(grid: Path) -> None:
    section = SECTION | {"settings": {"trainer.max_epochs": 3, "model.logit_scale": 5}}
    grid.write_text(yaml.safe_dump({"demo": section}, sort_keys=False))
    experiment = read_experiment(grid, "demo")
    assert command(experiment, "as shipped", 0)[4:] == ["--trainer.max_epochs=3", "--model.logit_scale=5"]
    assert "--model.logit_scale=1" in command(experiment, "Scale 1", 0)  # a cell's own counts


@pytest.mark.parametrize(
    ("arguments", "section", "message"),
    [
        (["nowhere.yaml", "demo"], {}, "nowhere.yaml: "),
        (["grid.yaml", "photos"], {}, 'grid.yaml: .*"photos".* demo'),
        (["grid.yaml", "demo"], {"colums": {"top": "x"}}, "colums"),
        (["grid.yaml", "demo"], {"plot": ["top", "size"]}, r"demo.plot .*\['size'\]"),
        (["grid.yaml", "demo"], {"cells": {"a b": {}, "a-b": {}}}, "demo.cells"),
        (["grid.yaml", "demo"], {"cells": {"a": 1}}, "cells"),
        (["grid.yaml", "demo", "--cells=[b]"], {}, r"grid.yaml: .*\['b'\]"),
        (["grid.yaml", "demo"], {"fit": "conf/none.yaml"}, "conf/none.yaml: "),
        (["grid.yaml", "demo", "--seeds=[]"], {}, "runs/ablations/demo"),
        (["grid.yaml", "demo"], {"models": ["tuned"]}, '"zero_shot/shape/top1" .*"tuned"'),
    ],
)
def test_what_cannot_run_is_said(
    grid: Path,
    ran: list[list[str]],
    arguments: list[str],
    section: dict[str, Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    grid.write_text(yaml.safe_dump({"demo": SECTION | section}, sort_keys=False))
    assert main(["ablations", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ablations: error: ")
    assert re.search(message, error), error


@pytest.mark.parametrize("name", ["demo", "photos", "paper"])
def test_shipped_grids_are_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    experiment = read_experiment("conf/ablations.yaml", name)
    everything: dict[str, Any] = {}
    for settings in (experiment.settings, *experiment.cells.values()):  # parsed at once, since parsing takes a second
        everything |= settings
    grid = ablations.Experiment(**{**vars(experiment), "cells": {"all": everything}})
    with patch.object(PairCLI, "instantiate_classes"), patch.object(PairCLI, "execute") as run:
        pcclip(command(grid, "all", 0))
    run.assert_called_once()
