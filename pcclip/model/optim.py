"""Parameter groups and learning-rate schedules."""

import math
from abc import ABC, abstractmethod

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

OTHER = ("query", "latent", "gamma")  # queries of attention pools, and timm's scales of channels, (C, 1, 1)


def parameter_groups(module: nn.Module) -> list[dict[str, object]]:
    """Return the trainable parameters in two groups, with and without weight decay.

    Norms, biases, embeddings (token, class, position), queries of attention pools and scales are not decayed.
    """
    exempt = {id(child.weight) for child in module.modules() if isinstance(child, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        # Position and class embeddings are parameters of the tower itself: open_clip's `*_embedding`, timm's `pos_embed` and
        # `cls_token`. The weight of a module with such a name, like timm's `patch_embed.proj`, is an ordinary convolution.
        bare = name.rpartition(".")[2]
        is_embedding = id(parameter) in exempt or "embed" in bare or "_token" in bare or bare in OTHER
        (plain if parameter.ndim < 2 or is_embedding else decayed).append(parameter)
    groups: list[dict[str, object]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


class Schedule(ABC):
    """Learning-rate schedule that depends on the length of the run."""

    @abstractmethod
    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        """Return the factor of the base learning rate at optimiser step `step`, from 0."""

    def build(self, optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> LambdaLR:
        """Return the scheduler. Step it after each optimiser step."""
        return LambdaLR(optimizer, lambda step: self.factor(step, total_steps, steps_per_epoch))


class WarmupCosine(Schedule):
    """Linear warm-up from zero, then half a cosine down to `floor`.

    Args:
        warmup: Share of all steps used for warm-up.
        floor: Factor at the end.
    """

    def __init__(self, warmup: float = 0.1, floor: float = 0.0) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"model.schedule: warmup={warmup} is a share of all steps, at least 0 and below 1")
        self.warmup = warmup
        self.floor = floor

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        warmup_steps = math.ceil(self.warmup * total_steps)
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))


class Exponential(Schedule):
    """The paper's schedule: constant within an epoch, multiplied by `gamma` after each.

    Args:
        gamma: Factor per epoch. Source: arXiv 2409.09721, 0.9.
    """

    def __init__(self, gamma: float = 0.9) -> None:
        self.gamma = gamma

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        return self.gamma ** (step // steps_per_epoch)
