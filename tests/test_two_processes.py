"""Whole runs of `pcclip fit` with two processes: killed and resumed, and with sharded weights, they end as they should."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file

from pcclip.cli import main
from tests.helpers.models import TINY
from tests.helpers.processes import run_ranks
from tests.helpers.shards import write_image_shards

pytestmark = pytest.mark.distributed

ROOT = Path(__file__).parents[1]
SHARDED = ("--config", str(ROOT / "conf/fsdp.yaml"), "--trainer.strategy.init_args.data_parallel_size=2")


def settings(folder: Path, run: str) -> dict[str, Any]:
    """A run of two epochs of four batches on each of two processes, in `FOLDER/RUN`."""
    output = folder / run
    classes = {
        "name": "colours",
        "images": str(folder / "classes"),
        "templates": ["a photo of a {} square"],
    }
    callbacks = [
        (
            "pcclip.callbacks.Evaluation",
            {
                "tasks": [{"class_path": "pcclip.tasks.ZeroShot", "init_args": classes}],
                "batch_size": 1,
                "cache_dir": str(output / "cache"),
            },
        ),
        ("pcclip.callbacks.ResultsTable", {"file": str(output / "results.json"), "alphas": [0.5]}),
        ("pcclip.callbacks.SaveModel", {"folder": str(output / "model")}),
        ("pcclip.callbacks.Checkpoint", {"every_n_train_steps": 2}),
        ("tests.helpers.record.Record", {"folder": str(output)}),
    ]
    return {
        "seed_everything": 3,
        "trainer": {
            "accelerator": "cpu",
            "devices": 2,
            "max_epochs": 2,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                "init_args": {"save_dir": str(output), "name": "logs"},
            },
            "callbacks": [{"class_path": name, "init_args": arguments} for name, arguments in callbacks],
        },
        "model": {
            "clip": {"name": str(TINY)},
            "trainable": ["image", "text"],
            "head": "linear",
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001}},
        },
        "data": {"train": [str(folder / "shards")], "val": [str(folder / "shards")], "groups_per_batch": 1}
        | {"pairs_per_group": 4, "num_workers": 1},
    }


def words(folder: Path, run: str, *arguments: str) -> list[str]:
    """Words of `pcclip` that train with a run's settings."""
    file = folder / f"{run}.yaml"
    file.write_text(yaml.safe_dump(settings(folder, run)))
    return ["fit", "--config", str(file), *arguments]


def fit(folder: Path, run: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Train by the command, which starts its second process itself."""
    return subprocess.run(
        [sys.executable, "-m", "pcclip.cli", *words(folder, run, *arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def fit_as_ranks(folder: Path, run: str, *arguments: str) -> None:
    """Train in two processes that were started from outside, as by torchrun."""
    run_ranks(2, main, words(folder, run, *arguments), printed=folder / f"{run}.txt")


def rows(folder: Path, run: str, rank: int) -> list[list[Any]]:
    """What a process wrote down."""
    return [json.loads(line) for line in (folder / run / f"{rank}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, pictures of two classes (seven, which two processes cannot share evenly), and a run that was left alone."""
    folder = tmp_path_factory.mktemp("two")
    write_image_shards(folder / "shards", groups=8, group_size=4, groups_per_shard=3)
    for name, count in (("red", 4), ("green", 3)):
        (folder / "classes" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8, 8), name).save(folder / "classes" / name / f"{i}.png")
    done = fit(folder, "whole", "--trainer.strategy=ddp")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_process_is_killed_and_the_run_goes_on(folder: Path) -> None:
    killed = fit(folder, "killed", "--trainer.strategy=ddp", "--trainer.callbacks.kill_after=3")
    assert killed.returncode != 0
    met = [rows(folder, "killed", rank) for rank in (0, 1)]
    fit_as_ranks(folder, "killed", "--trainer.strategy=ddp", "--resume", "true")
    for rank in (0, 1):
        whole, found = rows(folder, "whole", rank), rows(folder, "killed", rank)
        assert len(whole) == 8
        assert met[rank] == whole[:3]
        assert found[3:] == whole[2:]  # from the checkpoint of the second step on
    one, other = (load_file(folder / run / "model" / "open_clip_model.safetensors") for run in ("whole", "killed"))
    assert all((one[name] == other[name]).all() for name in one)


def test_sharded_weights_train_evaluate_and_are_saved_as_whole_ones(folder: Path) -> None:
    fit_as_ranks(folder, "sharded", *SHARDED, "--trainer.precision=32-true")
    one, other = (load_file(folder / run / "model" / "open_clip_model.safetensors") for run in ("whole", "sharded"))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.shape == other[name].shape
        assert (value - other[name]).abs().max() < 1e-4, name
    tables = [json.loads((folder / run / "results.json").read_text()) for run in ("whole", "sharded")]
    assert {row["model"] for row in tables[0]} == {"base", "finetuned", "ensembled 0.5"}
    for mine, its in zip(*tables, strict=True):
        assert mine == pytest.approx(its, abs=1e-4)
