"""Fits and tests the tiny module with all tasks, in one process or two."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from pcclip.callbacks import Evaluation, ResultsTable
from pcclip.tasks import (
    Analogies,
    Arithmetic,
    ComparativePrompting,
    Compositionality,
    DifferenceTexts,
    LinearProbe,
    Retrieval,
    Task,
)
from tests.helpers.world import TEMPLATES, TinyModule, ranking, shot


def callbacks(world: Path, output: Path, table: str) -> list[Callback]:
    """All tasks, and the table of their results."""
    classes: dict[str, Any] = {"name": "colours", "images": str(world / "classes")}
    grid: dict[str, Any] = {"name": "grid", "images": str(world / "grid"), "table": str(world / "grid.jsonl")}
    tasks: list[Task] = [
        ranking(world, ceiling=True, images_per_draw=10),
        shot(world),
        LinearProbe(**classes, test=classes["images"], shots=[2]),
        ComparativePrompting(**classes, templates=TEMPLATES, texts=str(world / "comparatives.jsonl"), alphas=[0.8]),
        Arithmetic(**classes, edits=str(world / "edits.jsonl"), lambdas=[0, 1]),
        Analogies(**grid, templates=TEMPLATES, columns=("row", "column")),
        Compositionality(name="choices", images=str(world / "classes" / "red"), captions=str(world / "choices.json")),
        DifferenceTexts(name="shards", shards=str(world / "shards")),
        Retrieval(name="shards", shards=str(world / "shards")),
    ]
    evaluation = Evaluation(tasks, resamples=100, batch_size=4, cache_dir=str(output / "cache"))
    return [evaluation, ResultsTable(str(output / table), alphas=[0.5])]


def main(world: Path, output: Path, devices: int, frozen: bool) -> None:
    """Fit for two epochs; both processes see the same batches, so that their average is one process's gradient.

    Then test the checkpoint with a frozen image tower, as conf/eval does.
    """
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": devices,
        "strategy": "ddp" if devices > 1 else "auto",
        "use_distributed_sampler": False,
        "max_epochs": 2,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": TensorBoardLogger(output, name="logs", version="run"),
    }
    trainer = Trainer(**settings, callbacks=callbacks(world, output, "fit.json"))
    trainer.fit(TinyModule(frozen))
    trainer.save_checkpoint(output / "last.ckpt")
    tester = Trainer(**settings, callbacks=callbacks(world, output, "test.json"))
    tester.test(TinyModule(), ckpt_path=output / "last.ckpt", verbose=False)
