"""Parameter groups and learning-rate schedules."""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from timm.models import group_parameters
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

NOT_DECAYED = ("query", "latent", "gamma")  # queries of attention pools, and timm's scales of channels, (C, 1, 1)
LR_FACTOR = "lr_scale"  # key of a group, as timm names it
# open_clip's vision transformer in the form of timm's `group_matcher`: what comes before the blocks, each block, what follows.
_OPEN_CLIP_LAYERS = {
    "stem": r"^(?:class_embedding|positional_embedding|conv1|ln_pre)",
    "blocks": [(r"^transformer\.resblocks\.(\d+)", None), (r"^(?:ln_post|attn_pool|proj)", (99999,))],
}


def parameter_groups(module: nn.Module, factors: Mapping[nn.Parameter, float] | None = None) -> list[dict[str, object]]:
    """Return the trainable parameters in groups: with and without weight decay, and by factor of the learning rate.

    Norms, biases, embeddings (token, class, position), queries of attention pools and scales are not decayed.

    Args:
        module: The module.
        factors: Factors of the learning rate, 1 by default.
    """
    exempt = {id(child.weight) for child in module.modules() if isinstance(child, nn.Embedding)}
    found: dict[tuple[bool, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        # Position and class embeddings are parameters of the tower itself: open_clip's `*_embedding`, timm's `pos_embed` and
        # `cls_token`. The weight of a module with such a name, like timm's `patch_embed.proj`, is an ordinary convolution.
        bare = name.rpartition(".")[2]
        is_embedding = id(parameter) in exempt or "embed" in bare or "_token" in bare or bare in NOT_DECAYED
        is_plain = parameter.ndim < 2 or is_embedding
        found[is_plain, factors.get(parameter, 1.0) if factors else 1.0].append(parameter)
    groups: list[dict[str, object]] = []
    for (is_plain, factor), parameters in sorted(found.items(), key=lambda item: item[0]):
        settings = ({LR_FACTOR: factor} if factor != 1 else {}) | ({"weight_decay": 0.0} if is_plain else {})
        groups.append({"params": parameters, **settings})
    return groups


def layer_factors(visual: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """Return the learning-rate factors of an image tower's layers: 1 for the last, times `decay` for each layer before it.

    Raises:
        ValueError: The layers of this tower are not known.
    """
    trunk: Any = getattr(visual, "trunk", visual)
    if hasattr(trunk, "group_matcher"):  # of timm
        matcher = trunk.group_matcher(coarse=False)
    elif hasattr(visual, "transformer"):
        matcher = _OPEN_CLIP_LAYERS
    else:
        raise ValueError(
            f"model.layer_decay={decay:g}: the layers of {type(visual).__name__} are not known; leave it out, or use "
            "model.lr_factors"
        )
    layers = group_parameters(trunk, matcher, reverse=True)
    last = max(layers.values())
    return {parameter: decay ** (last - layers[name]) for name, parameter in trunk.named_parameters()}


def constant(optimizer: Optimizer) -> LambdaLR:
    """Return a scheduler without a schedule, which only applies the factors of the groups."""
    return _scheduler(optimizer, lambda step: 1.0)


def _scheduler(optimizer: Optimizer, factor: Callable[[int], float]) -> LambdaLR:
    def of_group(own: float) -> Callable[[int], float]:
        return lambda step: own * factor(step)

    # Factors are applied here and not in the groups' rates, so that Lightning's LearningRateFinder may set one rate for all.
    return LambdaLR(optimizer, [of_group(group.get(LR_FACTOR, 1.0)) for group in optimizer.param_groups])


class Schedule(ABC):
    """Learning-rate schedule that depends on the length of the run."""

    @abstractmethod
    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        """Return the factor of the base learning rate at optimiser step `step`, from 0."""

    def build(self, optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> LambdaLR:
        """Return the scheduler. Step it after each optimiser step."""
        return _scheduler(optimizer, lambda step: self.factor(step, total_steps, steps_per_epoch))


class WarmupCosine(Schedule):
    """Linear warm-up from zero, then half a cosine down to zero.

    Args:
        warmup: Share of all steps used for warm-up.
    """

    def __init__(self, warmup: float = 0.1) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"model.schedule: warmup={warmup} is a share of all steps, at least 0 and below 1")
        self.warmup = warmup

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        warmup_steps = math.ceil(self.warmup * total_steps)
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return 0.5 * (1 + math.cos(math.pi * progress))


class Exponential(Schedule):
    """The paper's schedule: constant within an epoch, multiplied by `gamma` after each.

    Args:
        gamma: Factor per epoch. Source: arXiv 2409.09721, 0.9.
    """

    def __init__(self, gamma: float = 0.9) -> None:
        self.gamma = gamma

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        return self.gamma ** (step // steps_per_epoch)
