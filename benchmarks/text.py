"""Text-only finetuning compared with a plain loop: `python -m benchmarks.text`.

Both train a text tower on difference texts and stored image embeddings, with the same loss and the same AdamW. The plain loop
gets its texts padded to 77 tokens and calls open_clip's `encode_text`; neither tokenises. They take turns on the same batches
and the same weights, and are first seen to make the same gradients. Texts are made up, as long as those that language models
write: about 34 tokens, some up to 77 (`benchmarks/synthetic.py`).

    python -m benchmarks.text --models ViT-B-32 --pairs 128
    python -m benchmarks.text --models ViT-B-32 --profile    # where the time goes, by operator
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import alternate, report, speed_rows
from benchmarks.synthetic import text
from pcclip.batch import PairBatch
from pcclip.model import ClipSource
from pcclip.model.module import LitDifferenceCLIP
from pcclip.model.optim import parameter_groups


def make_module(name: str, trainable: list[str]) -> LitDifferenceCLIP:
    """A module with random weights and the losses of one process."""
    torch.manual_seed(0)
    module = LitDifferenceCLIP(ClipSource(name), trainable)
    return module


def make_batch(module: LitDifferenceCLIP, pairs: int, images: int, seed: int) -> PairBatch:
    """Random embeddings, distinct pairs among them, and made-up texts, tokenised."""
    generator = torch.Generator().manual_seed(seed)
    random = np.random.default_rng(seed)
    # Distinct, since the plain loss knows no duplicates.
    place = torch.randperm(images * (images - 1), generator=generator)[:pairs]
    first, distance = place // (images - 1), place % (images - 1)
    return PairBatch(
        images=None,
        embeddings=F.normalize(torch.randn(images, module.model.embed_dim, generator=generator), dim=-1),
        image_ids=torch.arange(images),
        first=first,
        second=(first + 1 + distance) % images,
        tokens=module.model.tokenizer([text(random) for _ in range(pairs)]),
        captioned=torch.empty(0, dtype=torch.long),
        caption_tokens=torch.empty(0, 1, dtype=torch.long),
        damaged=torch.tensor(0),
    )


def plain_loss(module: LitDifferenceCLIP, batch: PairBatch) -> Tensor:
    """The loss as one would write it in a plain loop, with texts of 77 tokens."""
    assert batch.embeddings is not None
    padded = F.pad(batch.tokens, (0, 77 - batch.tokens.shape[1]))
    texts = module.model.towers.encode_text(padded, normalize=True)
    differences = F.normalize(batch.embeddings[batch.first] - batch.embeddings[batch.second], dim=-1)
    logits = module.log_logit_scale.exp() * differences @ texts.T
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def own_loss(module: LitDifferenceCLIP, batch: PairBatch) -> Tensor:
    """The module's loss."""
    return module.losses(batch)["loss"]


def gradients(module: LitDifferenceCLIP, loss: Tensor) -> dict[str, Tensor]:
    """Gradients by name, taken away from the weights."""
    loss.backward()
    found = {name: value.grad for name, value in module.named_parameters() if value.grad is not None}
    module.zero_grad(set_to_none=True)
    return found


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Largest difference of two sets of gradients, each relative to its largest entry."""
    assert one.keys() == other.keys()
    return max(float((one[name] - value).abs().max() / value.abs().max()) for name, value in other.items())


def step(loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> None:
    """One step of training."""
    loss().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def measure(name: str, pairs: int, repeats: int, profile: bool = False) -> list[dict[str, Any]]:
    """The rows of one model; none when a step is profiled instead."""
    module = make_module(name, ["text"])
    optimizer = torch.optim.AdamW(parameter_groups(module), lr=1e-6, fused=True)  # type: ignore[arg-type]
    batches = [make_batch(module, pairs, pairs // 2, seed) for seed in range(repeats + 1)]
    if profile:
        with torch.profiler.profile() as profiler:
            step(partial(own_loss, module, batches[0]), optimizer)
        print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=40))
        return []
    found = (gradients(module, loss(module, batches[0])) for loss in (own_loss, plain_loss))
    print(f"{name}: largest difference of the two gradients {difference(*found):.1e}, relative")

    def turns(loss: Callable[[LitDifferenceCLIP, PairBatch], Tensor]) -> Callable[[], None]:
        left = iter(batches)
        return lambda: step(lambda: loss(module, next(left)), optimizer)

    seconds = alternate({"plain loop, 77 tokens": turns(plain_loss), "pcclip": turns(own_loss)}, repeats)
    tokens = torch.cat([(batch.tokens != 0).sum(1) for batch in batches]).float()
    labels = {"model": name, "pairs": pairs, "tokens": f"mean {tokens.mean():.1f}, most {tokens.max():.0f}"}
    return speed_rows(pairs, seconds, **labels)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["ViT-B-32", "ViT-L-14"])
    parser.add_argument("--pairs", type=int, default=128, help="pairs in a batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="print one step's operators instead")
    options = parser.parse_args(arguments)
    rows = [row for name in options.models for row in measure(name, options.pairs, options.repeats, options.profile)]
    if rows:
        report("text", rows)


if __name__ == "__main__":
    main()
