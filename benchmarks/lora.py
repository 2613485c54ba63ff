"""Low-rank adapters compared with training all weights of the text tower: `python -m benchmarks.lora`.

Both train on the same difference texts and stored image embeddings, in turns, with AdamW. For each:

- *state, MiB*: what trains, its gradients and the optimiser's state;
- *peak, MiB*: the most memory that a step needs on top of the model, in a process of its own (Linux only).
"""

import argparse
import multiprocessing
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import alternate, report, speed_rows
from benchmarks.text import make_batch, own_loss, step
from pcclip.model import ClipSource
from pcclip.model.lora import Lora
from pcclip.model.module import LitDifferenceCLIP
from pcclip.model.optim import parameter_groups

KINDS = {"all weights": None, "LoRA, rank 16": Lora()}


def make(name: str, kind: str, pairs: int) -> tuple[LitDifferenceCLIP, Callable[[], None]]:
    """A module with random weights, and its step on three batches in turn."""
    torch.manual_seed(0)
    module = LitDifferenceCLIP(ClipSource(name), ["text"], lora=KINDS[kind])
    optimizer = torch.optim.AdamW(parameter_groups(module), lr=1e-5)
    batches = cycle([make_batch(module, pairs, pairs // 2, seed) for seed in range(3)])
    return module, lambda: step(partial(own_loss, module, next(batches)), optimizer)


def state(module: LitDifferenceCLIP) -> float:
    """MiB of trainable weights, gradients and AdamW's two moments."""
    return sum(value.nbytes for value in module.parameters() if value.requires_grad) * 4 / 2**20


def peak(name: str, kind: str, pairs: int) -> float:
    """MiB that the second of two steps needs on top of the model."""
    torch.set_num_threads(1)
    _, work = make(name, kind, pairs)
    before = _resident("VmRSS")
    work()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    work()
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measure(name: str, pairs: int, repeats: int) -> list[dict[str, Any]]:
    """The rows of one model."""
    made = {kind: make(name, kind, pairs) for kind in KINDS}
    seconds = alternate({kind: work for kind, (_, work) in made.items()}, repeats)
    rows = speed_rows(pairs, seconds, model=name, pairs=pairs)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = pool.starmap(peak, [(name, kind, pairs) for kind in KINDS], chunksize=1)
    sizes = [state(module) for module, _ in made.values()]
    return [{**row, "state, MiB": size, "peak, MiB": most} for row, size, most in zip(rows, sizes, peaks, strict=True)]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["ViT-B-32"])
    parser.add_argument("--pairs", type=int, default=64, help="pairs in a batch")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    report("lora", [row for name in options.models for row in measure(name, options.pairs, options.repeats)])


if __name__ == "__main__":
    main()
