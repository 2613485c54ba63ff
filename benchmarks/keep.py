"""Cost of the keep loss: `python -m benchmarks.keep`.

A step of the text tower on difference texts and captions, with stored image embeddings, without and with `model.keep_weight`,
in turns. As in `conf/photos/finetune.yaml` there are as many captions as pairs. Captions have about 14 tokens and are new
in each step, as in a first epoch: the base's embeddings are kept for later epochs.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.measure import alternate, report, speed_rows
from benchmarks.synthetic import WORDS
from benchmarks.text import make_batch, own_loss, step
from pcclip.model import ClipSource
from pcclip.model.module import LitDifferenceCLIP
from pcclip.model.optim import parameter_groups

KINDS = {"caption loss": 0.0, "caption loss and keep loss": 10.0}


def make(name: str, keep_weight: float, pairs: int, steps: int) -> Callable[[], None]:
    """A step of a module with random weights, on a new batch at each call."""
    torch.manual_seed(0)
    module = LitDifferenceCLIP(ClipSource(name), ["text"], caption_weight=1, keep_weight=keep_weight)
    optimizer = torch.optim.AdamW(parameter_groups(module), lr=1e-5, fused=True)
    random, batches = np.random.default_rng(0), []
    for seed in range(steps):
        captions = [" ".join(random.choice(WORDS, 12)) for _ in range(pairs)]
        batch = make_batch(module, pairs, pairs, seed)
        batches.append(batch._replace(captioned=torch.arange(pairs), caption_tokens=module.model.tokenizer(captions)))
    left = iter(batches)
    return lambda: step(partial(own_loss, module, next(left)), optimizer)


def measure(name: str, pairs: int, repeats: int) -> list[dict[str, Any]]:
    """The rows of one model."""
    seconds = alternate({kind: make(name, weight, pairs, repeats + 1) for kind, weight in KINDS.items()}, repeats)
    return speed_rows(pairs, seconds, model=name, pairs=pairs)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["ViT-B-32"])
    parser.add_argument("--pairs", type=int, default=64, help="pairs, and captions, in a batch")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    report("keep", [row for name in options.models for row in measure(name, options.pairs, options.repeats)])


if __name__ == "__main__":
    main()
