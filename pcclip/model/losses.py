"""The losses that pull differences of images towards texts that describe them.

All come from open_clip but the mean squared error. They are exact under DDP: gradients averaged over ranks equal those of
one process with the joint batch. Each rank must hold equally many pairs.
"""

from __future__ import annotations

from typing import Literal

import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor, nn
from torch.nn import functional as F

LossName = Literal["contrastive", "sigmoid", "mse"]


class MSELoss(nn.Module):
    """Squared distance of unit vectors, summed over D and averaged over P: the paper's "similar" variant.

    Takes and ignores the scale and bias, which have no meaning for it. Source: arXiv 2409.09721.
    """

    def forward(self, image: Tensor, text: Tensor, logit_scale: Tensor, logit_bias: Tensor | None) -> Tensor:
        return (image - text).square().sum(-1).mean()


def role_loss(differences: Tensor, texts: Tensor, twin: Tensor, logit_scale: Tensor) -> Tensor:
    """Cross entropy of the choice between each text and its exchanged form, the role test as a loss; 0 without twins.

    Every rank's own pairs suffice, since only two texts are compared.

    Args:
        differences: Unit, (P, D).
        texts: Unit, (P, D).
        twin: The row of each text's exchanged form, its own where it has none, (P,).
        logit_scale: 1 / temperature.
    """
    margin = logit_scale * (differences * (texts - texts[twin])).sum(-1)
    has_twin = twin != torch.arange(len(twin), device=twin.device)
    return (F.softplus(-margin) * has_twin).sum() / has_twin.sum().clamp(min=1)


def build_loss(name: LossName, rank: int = 0, world_size: int = 1) -> nn.Module:
    """A loss by name, called with unit image-side and text-side embeddings (P, D) each, a logit scale and a logit bias.

    Examples:
        >>> import torch
        >>> differences = torch.eye(4)
        >>> round(build_loss("mse")(differences, -differences, torch.tensor(10.0), None).item(), 3)
        4.0

    Raises:
        ValueError: Unknown name.
    """
    if name == "contrastive":
        # local_loss with gather_with_grad is the only combination whose averaged gradients are exact.
        loss: nn.Module = ClipLoss(
            local_loss=True, gather_with_grad=True, cache_labels=True, rank=rank, world_size=world_size
        )
        return loss
    if name == "sigmoid":
        sigmoid: nn.Module = SigLipLoss(rank=rank, world_size=world_size)
        return sigmoid
    if name == "mse":
        return MSELoss()
    raise ValueError(f"unknown difference loss {name!r}; use contrastive, sigmoid or mse")
