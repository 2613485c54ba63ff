"""Memory of trainer and workers, over epochs and from few shards to many: `python -m benchmarks.memory`.

Whole trainings of a tiny model on embedded shards, with workers, validation, checkpoints and TensorBoard, each in a process
of its own: on 10 shards and on 1,000, with as many steps. Memory is looked up ten times, at the end of an epoch, the first
time when a tenth of the steps is done. It is what the processes hold in memory of their own or share among each other, the
latter counted once (`Pss_Anon` and `Pss_Shmem` of Linux); libraries, which they share with whatever else runs, are left out.

- *growth* is from the first two of the ten to the last two;
- *over the fewest* compares the last two with those of the training on the fewest shards.

oneDNN keeps the code it makes for each shape it meets, up to 1,024 of them. On a CPU, where texts of all lengths are encoded,
that is some 30 MiB which fill in the first few hundred steps; the trainings here keep none, so that nothing hides behind it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from benchmarks.kill import MODEL
from benchmarks.measure import report
from benchmarks.synthetic import write_shards
from pcclip.callbacks import Checkpoint
from pcclip.data.datamodule import PairDataModule
from pcclip.data.format import EmbeddingInfo
from pcclip.model import ClipSource
from pcclip.model.module import LitDifferenceCLIP

GROUPS_PER_SHARD = 4
GROUPS_PER_BATCH = 20
SAMPLES = 10


def held(process: int) -> float:
    """MiB that a process holds: its own, and its part of what it shares with its parent and children."""
    lines = (line.split() for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:])
    kibibytes = {name: int(value) for name, value, _ in lines}
    return (kibibytes["Pss_Anon:"] + kibibytes["Pss_Shmem:"]) / 1024


class Sample(Callback):
    """Looks up the memory of this process and of its workers at the end of every n-th epoch."""

    def __init__(self, every: int, workers: int) -> None:
        self._every = every
        self._workers = workers
        self.rows: list[tuple[float, float]] = []

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Look it up after the last batch of an epoch, before validation starts workers of its own."""
        if trainer.is_last_batch and (trainer.current_epoch + 1) % self._every == 0:
            processes = psutil.Process().children(recursive=True)
            assert len(processes) == self._workers, processes
            self.rows.append((held(psutil.Process().pid), sum(held(one.pid) for one in processes)))


def make_module(folder: Path) -> LitDifferenceCLIP:
    """The module, with the same weights every time."""
    torch.manual_seed(0)
    source = ClipSource(str(folder / "tiny.json"))
    return LitDifferenceCLIP(source, ["text_transformer"], optimizer=partial(torch.optim.AdamW, lr=1e-4))


def train(folder: Path, name: str, epochs: int, workers: int) -> list[tuple[float, float]]:
    """MiB of trainer and workers, ten times in these epochs."""
    sample, every = Sample(epochs // SAMPLES, workers), epochs // SAMPLES
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        check_val_every_n_epoch=every,
        num_sanity_val_steps=0,  # whose worker would wait for the first validation
        logger=TensorBoardLogger(folder / "logs", name=name),
        callbacks=[Checkpoint(every_n_train_steps=1000), sample],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = PairDataModule(
        [str(folder / name)],
        [str(folder / "val")],
        groups_per_batch=GROUPS_PER_BATCH,
        pairs_per_group=4,
        num_workers=workers,
    )
    trainer.fit(make_module(folder), data)
    return sample.rows


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[10, 1000], help="multiples of the first")
    parser.add_argument("--epochs", type=int, default=10, help=f"with the most shards; a multiple of {SAMPLES}")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "NAME"), help="internal: one training")
    options = parser.parse_args(arguments)
    if options.measure:
        folder, name = options.measure
        print(json.dumps(train(Path(folder), name, options.epochs, options.workers)))
        return
    fewest, most = min(options.shards), max(options.shards)
    if options.epochs % SAMPLES or any(number % fewest or most % number for number in options.shards):
        parser.error(f"--epochs must be a multiple of {SAMPLES}, and each of --shards of those before it")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="pcclip-benchmark-") as name:
        folder = Path(name)
        (folder / "tiny.json").write_text(json.dumps(MODEL))
        model = make_module(folder).model
        write = partial(
            write_shards,
            groups_per_shard=GROUPS_PER_SHARD,
            pairs=8,
            embedding=EmbeddingInfo("tiny", model.embed_dim, model.image_fingerprint),
        )
        write(folder / "val", shards=10)
        for shards in sorted(options.shards):
            write(folder / str(shards), shards=shards)
            epochs = options.epochs * most // shards
            command = [sys.executable, "-m", "benchmarks.memory", "--measure", name, str(shards)]
            settings = ["--epochs", str(epochs), "--workers", str(options.workers)]
            environment = {**os.environ, "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0"}
            done = subprocess.run([*command, *settings], check=True, stdout=subprocess.PIPE, text=True, env=environment)
            found = json.loads(done.stdout.splitlines()[-1])
            for process, samples in zip(("trainer", "all workers"), zip(*found, strict=True), strict=True):
                first, last = mean(samples[:2]), mean(samples[-2:])
                fewest_last = next((row["last, MiB"] for row in rows if row["process"] == process), last)
                rows.append(
                    {
                        "shards": shards,
                        "epochs": epochs,
                        "process": process,
                        "first, MiB": first,
                        "last, MiB": last,
                        "growth": f"{last / first - 1:+.1%}",
                        "over the fewest": f"{last / fewest_last - 1:+.1%}",
                    }
                )
    report("memory", rows)


if __name__ == "__main__":
    main()
