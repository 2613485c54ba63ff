"""The module's optimiser: parameter groups with their learning rates, and the schedule. `optim` itself needs no Lightning."""

import math

from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from pcclip.model.clip import DifferenceCLIP
from pcclip.model.optim import Schedule, constant, layer_factors, parameter_groups
from pcclip.model.trainable import parameters_of


class Optimisation(LightningModule):
    """Configure the optimiser of all parameters that train."""

    model: DifferenceCLIP
    _optimizer: OptimizerCallable
    _schedule: Schedule | None
    _lr_factors: dict[str, float]
    _layer_decay: float | None

    @property
    def lr(self) -> float:
        """Learning rate before the schedule. Lightning's LearningRateFinder reads and sets it."""
        group = self.trainer.optimizers[0].param_groups[0]
        rate: float = group.get("initial_lr", group["lr"])
        return rate

    @lr.setter
    def lr(self, rate: float) -> None:
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] = rate
        for each in self.trainer.lr_scheduler_configs:
            each.scheduler.base_lrs = [rate] * len(each.scheduler.base_lrs)

    def learning_rate_factors(self) -> dict[nn.Parameter, float]:
        """Return the factors of the learning rate that are set. Sharding replaces parameters, so they are not stored."""
        towers = self.model.towers
        factors = {} if self._layer_decay is None else layer_factors(towers.visual, self._layer_decay)
        for part, factor in self._lr_factors.items():
            for parameter in parameters_of(towers, part, "lr_factors"):
                factors[parameter] = factors.get(parameter, 1.0) * factor
        return factors

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser with its parameter groups, and the schedule, which is stepped after each optimiser step."""
        factors = self.learning_rate_factors()
        groups = parameter_groups(self, factors)
        if not groups:
            raise ValueError("model.trainable is empty and nothing else trains; name at least one part")
        optimizer = self._optimizer(groups)
        if self._schedule is None:
            if not factors:
                return optimizer
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": constant(optimizer), "interval": "step"}}
        total = self.trainer.estimated_stepping_batches
        if math.isinf(total):
            raise ValueError("model.schedule needs the length of the run; set trainer.max_epochs or trainer.max_steps")
        self.trainer.fit_loop.setup_data()  # sets num_training_batches
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        scheduler = self._schedule.build(optimizer, int(total), steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
