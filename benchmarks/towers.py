"""Both towers training, each image encoded once for all of its pairs, beside two images for each pair.

    python -m benchmarks.towers

A batch is one group of 16 images and 60 pairs among them. The baseline is the same module with the same texts, on a batch in
which every pair has images of its own; both make the same gradients. They take turns on the same batches and the same
weights. The arithmetic of both, forward, is counted by `torch.utils.flop_counter`; the backward pass takes twice as much in
either, so the ratio is that of a step.
"""

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import alternate, report, speed_rows, table
from benchmarks.text import difference, gradients, make_batch, make_module, own_loss, step
from pcclip.batch import PairBatch
from pcclip.model.module import LitDifferenceCLIP
from pcclip.model.optim import parameter_groups

LABELS = ("two images a pair", "pcclip")


def image_batch(module: LitDifferenceCLIP, images: int, pairs: int, seed: int) -> PairBatch:
    """One group of noise images and pairs among them."""
    generator = torch.Generator().manual_seed(seed)
    size = module.model.towers.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    pixels = torch.randint(256, (images, 3, height, width), generator=generator, dtype=torch.uint8)
    return make_batch(module, pairs, images, seed)._replace(images=pixels, embeddings=None)


def repeated(batch: PairBatch) -> PairBatch:
    """The same pairs, each with two images of its own."""
    assert batch.images is not None
    rows = torch.cat([batch.first, batch.second])
    pairs = len(batch.first)
    return batch._replace(
        images=batch.images[rows],
        image_ids=batch.image_ids[rows],
        first=torch.arange(pairs),
        second=torch.arange(pairs, 2 * pairs),
    )


def operations(function: Callable[[], object]) -> int:
    """Floating-point operations of a call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function()
    return int(counter.get_total_flops())


def count(name: str, images: int, pairs: int) -> dict[str, Any]:
    """What the arithmetic allows."""
    module = make_module(name, ["all"])
    tokens = make_batch(module, pairs, images, 0).tokens
    texts = operations(lambda: module.model.encode_tokens(tokens))
    size = module.model.towers.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    visual = copy.deepcopy(module.model.towers.visual).to("meta")  # counted, not computed
    image = operations(lambda: visual(torch.empty(1, 3, height, width, device="meta")))
    return {
        "model": name,
        "an image, GFLOP": image / 1e9,
        "a text, GFLOP": texts / pairs / 1e9,
        "ratio by count": (2 * pairs * image + texts) / (images * image + texts),
    }


def main(arguments: list[str] | None = None) -> None:
    """Count, measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32", help="the one that is measured")
    parser.add_argument(
        "--count", nargs="+", default=["ViT-B-32", "ViT-L-14"], help="those whose arithmetic is counted"
    )
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    print(table([count(name, options.images, options.pairs) for name in options.count]))

    module = make_module(options.model, ["all"])
    optimizer = torch.optim.AdamW(parameter_groups(module), lr=1e-6, fused=True)  # type: ignore[arg-type]
    batches = [image_batch(module, options.images, options.pairs, seed) for seed in range(options.repeats + 1)]
    found = (gradients(module, own_loss(module, batch)) for batch in (batches[0], repeated(batches[0])))
    print(f"\n{options.model}: largest difference of the two gradients {difference(*found):.1e}, relative\n")
    turns = {LABELS[0]: iter([repeated(batch) for batch in batches]), LABELS[1]: iter(batches)}

    def loss(label: str) -> Tensor:
        return own_loss(module, next(turns[label]))

    works = {label: lambda label=label: step(lambda: loss(label), optimizer) for label in LABELS}
    report("towers", speed_rows(options.pairs, alternate(works, options.repeats), model=options.model))


if __name__ == "__main__":
    main()
