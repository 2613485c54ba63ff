"""Text-only finetuning of ViT-L-14 on a GPU: `python -m benchmarks.gpu`, or `make bench-gpu`.

A whole training as users run it: embedded shards, loader, Trainer in bf16-mixed precision, fused AdamW. Full
finetuning and low-rank adapters, each eager and compiled, run in turns. For each turn, after some steps that are not counted:

- pairs per second;
- MFU, model FLOP utilisation: the arithmetic that forward and backward pass do, counted once by
  `torch.utils.flop_counter` without what is computed again, by the GPU's dense bfloat16 peak as its vendor states it;
- the most memory allocated;
- the share of the time in which the GPU waited for a batch.

Tiny shapes run on a CPU, to see that the script works; there MFU and memory are left out.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import report
from benchmarks.synthetic import write_shards
from benchmarks.text import own_loss
from pcclip.batch import PairBatch
from pcclip.data.datamodule import PairDataModule
from pcclip.data.format import EmbeddingInfo
from pcclip.model import ClipSource
from pcclip.model.lora import Lora
from pcclip.model.module import LitDifferenceCLIP

# Dense bfloat16 operations per second by the vendor's data sheets, without sparsity.
PEAK = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}
GROUP_PAIRS = 64
KINDS = ("eager", "compiled", "lora", "lora-compiled")
QUIET: dict[str, Any] = {
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Watch(Callback):
    """Times of the steps after the first `warm_up`, and how long each waited for its batch."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.waited = 0.0
        self._started = self._ended = 0.0
        self.seconds = 0.0

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        """Note how long the batch was waited for."""
        now = _now()
        if index == self.warm_up:
            self._started = now
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
        elif index > self.warm_up:
            self.waited += now - self._ended

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Note the end of the step on the device."""
        self._ended = _now()
        self.seconds = self._ended - self._started


def _median(values: list[float | None]) -> float | None:
    return median(known) if (known := [value for value in values if value is not None]) else None


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def make_module(options: argparse.Namespace, kind: str) -> LitDifferenceCLIP:
    """The module with random weights, its text tower training."""
    torch.manual_seed(0)
    optimizer = partial(torch.optim.AdamW, lr=1e-5, fused=True)
    return LitDifferenceCLIP(
        ClipSource(options.model),
        ["text"],
        lora=Lora() if "lora" in kind else None,
        optimizer=optimizer,
        chunk_size=options.chunk_size,
        compile="compiled" in kind,
    )


def train(options: argparse.Namespace, folder: Path, kind: str) -> dict[str, float | None]:
    """One training; its numbers."""
    module, watch = make_module(options, kind), Watch(options.warm_up)
    trainer = Trainer(
        precision=options.precision,
        max_steps=options.warm_up + options.steps,
        callbacks=[watch],
        **QUIET,
    )
    data = PairDataModule(
        [str(folder)],
        groups_per_batch=options.pairs // GROUP_PAIRS,
        pairs_per_group=GROUP_PAIRS,
        num_workers=options.workers,
    )
    trainer.fit(module, datamodule=data)
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
    return {
        "pairs/s": options.pairs * options.steps / watch.seconds,
        "memory, GiB": memory,
        "waiting": watch.waited / watch.seconds,
    }


def operations(options: argparse.Namespace, folder: Path, kind: str) -> float:
    """Floating-point operations of a pair, forward and backward, counted on a small batch of the same texts."""
    counted: list[float] = []

    class Count(Callback):
        def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: PairBatch, index: int) -> None:
            with FlopCounterMode(display=False) as counter:
                own_loss(module, batch).backward()  # type: ignore[arg-type]
            module.zero_grad()
            counted.append(counter.get_total_flops() / len(batch.first))

    module = make_module(argparse.Namespace(**{**vars(options), "chunk_size": None}), kind.removesuffix("compiled"))
    data = PairDataModule([str(folder)], groups_per_batch=2, pairs_per_group=GROUP_PAIRS, num_workers=0)
    Trainer(max_steps=1, callbacks=[Count()], **QUIET).fit(module, datamodule=data)
    return counted[0]


def peak() -> float | None:
    """The GPU's dense bfloat16 peak; None when it is not known, or there is none."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((value for known, value in PEAK.items() if all(word in name for word in known.split())), None)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-L-14")
    parser.add_argument("--pairs", type=int, default=4096, help=f"pairs in a batch, a multiple of {GROUP_PAIRS}")
    parser.add_argument("--chunk-size", type=int, help="texts encoded at once, where memory does not hold all")
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args(arguments)
    if options.pairs % GROUP_PAIRS:
        parser.error(f"--pairs {options.pairs}: must be a multiple of {GROUP_PAIRS}, the pairs of a group")
    torch.set_float32_matmul_precision("high")
    with tempfile.TemporaryDirectory(prefix="pcclip-benchmark-") as name:
        folder = Path(name) / "shards"
        module = make_module(options, "eager")
        made_by = EmbeddingInfo(options.model, module.model.embed_dim, module.model.image_fingerprint)
        del module
        write_shards(folder, shards=8, groups_per_shard=options.pairs // GROUP_PAIRS, pairs=240, embedding=made_by)
        work = {kind: operations(options, folder, kind) for kind in options.kinds}
        found: dict[str, list[dict[str, float | None]]] = {kind: [] for kind in options.kinds}
        for _ in range(options.repeats):
            for kind, numbers in found.items():
                numbers.append(train(options, folder, kind))
    rows = []
    for kind, numbers in found.items():
        middle = {key: _median([one[key] for one in numbers]) for key in numbers[0]}
        rows.append(
            {
                "model": options.model,
                "pairs": options.pairs,
                "step": kind,
                **middle,
                "MFU": work[kind] * (middle["pairs/s"] or 0) / ceiling if (ceiling := peak()) else None,
                "GFLOP a pair": work[kind] / 1e9,
            }
        )
    print()
    report("gpu", rows)


if __name__ == "__main__":
    main()
