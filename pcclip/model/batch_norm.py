"""Batch norm with several processes."""

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn


def batch_norm_trains(module: nn.Module) -> bool:
    """Return whether any batch norm uses batch statistics. Those of frozen towers do not, since they are in evaluation mode."""
    norms = (child for child in module.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm))
    return any(norm.training for norm in norms)


def synchronise(trainer: Trainer, tower: nn.Module) -> None:
    """Apply `trainer.sync_batchnorm` to an image tower. Warn if batch norms use the statistics of one process only.

    timm's conversion replaces Lightning's, which drops the activations inside timm's batch norms. Call this before the
    strategy sets up the model. Synchronised batch norm needs GPUs.
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
        f"the image tower trains with batch norms. Each of the {trainer.world_size} processes uses the statistics of its own "
        "batch, so training differs from one process with the joint batch. Set trainer.sync_batchnorm=true (on GPUs), or "
        "freeze the image tower"
    )
