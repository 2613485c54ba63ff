"""Kills a training again and again with SIGKILL, resumes it, and compares it with one that was left alone.

    python -m benchmarks.kill              # 20 kills
    python -m benchmarks.kill --kills 4 --folder /tmp/kill

Each start takes another number of workers. Every batch and every loss must equal the undisturbed run's bit for bit, also
those computed twice, and so must the weights at the end. Exits with 1 if anything differs.
"""

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from multiprocessing import get_all_start_methods, get_context, set_start_method
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.synthetic import write_shards
from pcclip.batch import PairBatch
from pcclip.cli import main as pcclip

CONTEXT = get_context("forkserver")  # imports once, not at each start
CONTEXT.set_forkserver_preload(["pcclip.training_cli"])
MODEL = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 32,
        "head_width": 16,
        "patch_size": 8,
        "patch_dropout": 0.25,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


class Record(Callback):
    """Appends a line to a file for each step, so that a kill loses none but the last.

    Args:
        file: The file.
    """

    def __init__(self, file: str) -> None:
        self._file = file

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: PairBatch, batch_idx: int
    ) -> None:
        """Write the step, its batch's hash and its loss."""
        digest = hashlib.sha256()
        for tensor in (batch.images, batch.first, batch.second, batch.tokens, batch.caption_tokens):
            assert tensor is not None
            digest.update(tensor.numpy().tobytes())
        row = [trainer.current_epoch, batch_idx, digest.hexdigest()[:16], float(outputs["loss"]).hex()]
        with Path(self._file).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the hash of the weights."""
        digest = hashlib.sha256()
        for value in pl_module.state_dict().values():
            digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        with Path(self._file).open("a") as file:
            file.write(json.dumps(["weights", 0, digest.hexdigest(), ""]) + "\n")


def settings(folder: Path, run: str, every: int, epochs: int) -> dict[str, Any]:
    """The configuration of a run: both towers, dropout, accumulation, schedule."""
    return {
        "seed_everything": 1,
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": epochs,
            "num_sanity_val_steps": 0,
            "accumulate_grad_batches": 2,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                "init_args": {"save_dir": str(folder), "name": run},
            },
            "callbacks": [
                {"class_path": "pcclip.callbacks.Checkpoint", "init_args": {"every_n_train_steps": every}},
                {"class_path": "benchmarks.kill.Record", "init_args": {"file": str(folder / f"{run}.jsonl")}},
            ],
        },
        "model": {
            "clip": {"name": str(folder / "tiny.json")},
            "trainable": ["all"],
            "head": "mlp",
            "caption_weight": 0.5,
            "schedule": {"class_path": "pcclip.model.WarmupCosine", "init_args": {"warmup": 0.2}},
        },
        "data": {
            "train": [str(folder / "shards")],
            "val": [str(folder / "shards")],
            "groups_per_batch": 2,
            "pairs_per_group": 4,
            "role_swap": 0.3,
            "shuffle_block": 6,
        },
    }


def start(folder: Path, run: str, workers: int) -> BaseProcess:
    """Start or resume a run."""
    process = CONTEXT.Process(target=fit, args=(folder, run, workers))
    process.start()
    return process


def fit(folder: Path, run: str, workers: int) -> None:
    """Train in this process, which prints into the run's log."""
    log = os.open(folder / f"{run}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    set_start_method(get_all_start_methods()[0], force=True)  # of workers, as in a process that was not forked
    options = ["--resume", "true", "--data.num_workers", str(workers)]
    sys.exit(pcclip(["fit", "--config", str(folder / f"{run}.yaml"), *options]))


def wait(process: BaseProcess, log: Path, *codes: int) -> None:
    """Wait for the end of a run, which must leave with one of these codes."""
    process.join()
    if process.exitcode not in codes:
        raise SystemExit(f"the run failed:\n{log.read_text()[-4000:]}")


def lines(file: Path) -> list[list[Any]]:
    """The rows recorded so far, without one that was cut off."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def kill_often(folder: Path, kills: int, rows: int, seed: int) -> int:
    """Run with kills; returns how many came before the run's end.

    Args:
        folder: Where the run is.
        kills: How many there shall be.
        rows: How many rows a run without kills records.
        seed: Seed of the moments.
    """
    moments = random.Random(seed)
    record = folder / "killed.jsonl"
    done = 0
    for attempt in range(kills):
        process = start(folder, "killed", attempt % 3)
        # So many more rows, then any moment of a step, or of writing a checkpoint.
        wanted = len(lines(record)) + moments.randint(0, max(1, 2 * rows // kills))
        while process.is_alive() and len(lines(record)) < wanted:
            time.sleep(0.01)
        time.sleep(moments.random() * 0.2)
        if process.is_alive():
            process.kill()
            done += 1
        wait(process, folder / "killed.log", 0, -9)
    wait(start(folder, "killed", 0), folder / "killed.log", 0)
    return done


def main(words: list[str] | None = None) -> int:
    """Run, kill, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--every", type=int, default=3, help="optimiser steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep everything here")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="pcclip-kill-") as name:
        folder = (arguments.folder or Path(name)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tiny.json").write_text(json.dumps(MODEL))
        write_shards(folder / "shards", shards=4, groups_per_shard=5, group_size=4, pairs=12, size=(32, 32))
        for run in ("alone", "killed"):
            content = settings(folder, run, arguments.every, arguments.epochs)
            (folder / f"{run}.yaml").write_text(yaml.safe_dump(content))
        wait(start(folder, "alone", 0), folder / "alone.log", 0)
        expected = {(row[0], row[1]): row for row in lines(folder / "alone.jsonl")}
        kills = kill_often(folder, arguments.kills, len(expected), arguments.seed)
        found = lines(folder / "killed.jsonl")
        other = [row for row in found if row != expected.get((row[0], row[1]))]
        missing = expected.keys() - {(row[0], row[1]) for row in found}
        print(f"{kills} kills; {len(expected) - 1} steps, of which {len(found) - len(expected)} were computed again")
        print(f"{len(other)} batches, losses or weights differ; {len(missing)} are missing")
        for row in other[:5]:
            print(f"  found {row}, expected {expected.get((row[0], row[1]))}")
        return int(bool(other or missing))


if __name__ == "__main__":
    sys.exit(main())
