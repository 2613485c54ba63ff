"""Fits and tests the tiny module with all evaluation callbacks: `run_world.py WORLD OUTPUT DEVICES FROZEN`."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from pcclip.callbacks import (
    Analogies,
    AnalogySet,
    Arithmetic,
    AttributeRanking,
    AttributeSet,
    ComparativePrompting,
    ComparativeSet,
    Compositionality,
    CompositionalitySet,
    ConfusedPairs,
    ConfusedSet,
    DifferenceTexts,
    EditSet,
    LinearProbe,
    LinearProbeSet,
    ResultsTable,
    Retrieval,
    ZeroShot,
    ZeroShotSet,
)

specification = importlib.util.spec_from_file_location("tiny_world", Path(__file__).with_name("conftest.py"))
assert specification is not None
assert specification.loader is not None
tiny_world = importlib.util.module_from_spec(specification)
specification.loader.exec_module(tiny_world)


def evaluations(world: Path, output: Path, table: str) -> list[Callback]:
    """All of them, and the table of their results."""
    attributes = AttributeSet(
        images=str(world / "images"),
        table=str(world / "table.csv"),
        texts=str(world / "texts.yaml"),
        ceiling=True,
        images_per_draw=10,
    )
    classes, templates = str(world / "classes"), ["a photo of a {} square"]
    pairs = ConfusedSet(classes, templates, str(output / "pairs.jsonl"), count=1, by="disagreement")
    texts = ComparativeSet(classes, templates, str(world / "comparatives.jsonl"), alphas=[0.8])
    edits = EditSet(classes, str(world / "edits.jsonl"))
    analogies = AnalogySet(str(world / "grid"), templates, str(world / "grid.jsonl"), ("row", "column"))
    choices = CompositionalitySet(str(world / "classes" / "red"), str(world / "choices.json"))
    shards = {"shards": str(world / "shards")}
    kept: dict[str, Any] = {"resamples": 100, "cache_dir": str(output / "cache")}
    return [
        AttributeRanking({"world": attributes}, batch_size=4, **kept),
        ZeroShot({"colours": ZeroShotSet(classes, templates)}, **kept),
        LinearProbe({"colours": LinearProbeSet(classes, classes, shots=[2])}, **kept),
        ComparativePrompting({"colours": texts}, **kept),
        Arithmetic({"colours": edits}, lambdas=[0, 1], **kept),
        Analogies({"grid": analogies}, **kept),
        Compositionality({"choices": choices}, **kept),
        DifferenceTexts(shards, **kept),
        Retrieval(shards, **kept),
        ConfusedPairs({"colours": pairs}),
        ResultsTable(str(output / table), alphas=[0.5]),
    ]


def main(world: Path, output: Path, devices: int, frozen: bool) -> None:
    """Fit for two epochs; both processes see the same batches, so that their average is one process's gradient.

    Then test the checkpoint with a frozen image tower, as conf/eval does.
    """
    torch.set_num_threads(1)
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
    trainer = Trainer(**settings, callbacks=evaluations(world, output, "fit.json"))
    trainer.fit(tiny_world.TinyModule(frozen))
    trainer.save_checkpoint(output / "last.ckpt")
    tester = Trainer(**settings, callbacks=evaluations(world, output, "test.json"))
    tester.test(tiny_world.TinyModule(), ckpt_path=output / "last.ckpt", verbose=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "frozen")
