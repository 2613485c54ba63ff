"""Batch norm on several processes."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn


def batch_norm_trains(module: nn.Module) -> bool:
    """Whether any batch norm takes its statistics from batches; those of frozen towers are in evaluation mode."""
    norms = (child for child in module.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm))
    return any(norm.training for norm in norms)


def synchronise(trainer: Trainer, tower: nn.Module) -> None:
    """Do what `trainer.sync_batchnorm` asks for in an image tower, and warn where statistics stay those of one process.

    Lightning's own conversion drops the activations that timm puts into its batch norms, so it is replaced by timm's. It
    must be called before the strategy sets up the model. Synchronised batch norm needs GPUs.
    """
    strategy = trainer.strategy
    wanted = getattr(strategy, "_layer_sync", None) is not None
    if wanted:
        strategy._layer_sync = None  # type: ignore[attr-defined]  # of strategies for several processes
    if trainer.world_size == 1 or not batch_norm_trains(tower):
        return
    if wanted and strategy.root_device.type == "cuda":
        convert_sync_batchnorm(tower)  # type: ignore[no-untyped-call]
        return
    rank_zero_warn(
        f"the image tower trains with batch norms, whose statistics each of the {trainer.world_size} processes takes from its "
        "own batch: training differs from that of one process with the joint batch. Set trainer.sync_batchnorm=true (on "
        "GPUs), or freeze the image tower"
    )
