"""Correct evaluation and averaging with Lightning's WeightAveraging and EMAWeightAveraging."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_swa_avg_fn


@contextmanager
def averaged(trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
    """Use the averaged weights in the block, as Lightning does in validation. Checkpoints and `SaveModel` save these weights.

    Without an averaging callback, and after training, the weights stay as they are.
    """
    averaging = _averaging(trainer)
    for callback in averaging:
        callback.on_validation_epoch_start(trainer, pl_module)
    try:
        yield
    finally:
        for callback in averaging:
            callback.on_validation_epoch_end(trainer, pl_module)


def average_exactly(trainer: Trainer) -> None:
    """Make the average of equal weights exactly equal to them. Call this when training is set up.

    Otherwise rounding changes frozen weights, and cached embeddings of a frozen tower would not fit the saved model. The minus
    infinity in attention masks, which are buffers, would become NaN.
    """
    for callback in _averaging(trainer):
        average = callback._average_model
        if average is None:
            continue
        if average.multi_avg_fn is not None:
            average.multi_avg_fn = _all_exact(average.multi_avg_fn)
        else:
            average.avg_fn = _exact(average.avg_fn or get_swa_avg_fn())  # type: ignore[no-untyped-call]


def _exact(average: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def exact(mean: Tensor, weight: Tensor, count: Tensor | int) -> Tensor:
        return torch.where(mean == weight, weight, average(mean, weight, count))

    return exact


def _all_exact(average: Callable[..., None]) -> Callable[..., None]:
    def exact(means: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        equal = [mean == weight for mean, weight in zip(means, weights, strict=True)]
        average(means, weights, count)
        for mean, weight, same in zip(means, weights, equal, strict=True):
            mean.copy_(weight.where(same, mean))

    return exact


def _averaging(trainer: Trainer) -> list[WeightAveraging]:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # declared nowhere in Trainer
    return [callback for callback in callbacks if isinstance(callback, WeightAveraging)]
