"""Difference heads: odd maps from image differences into the space of texts.

Swapping the two images negates their difference, and the reversed text means the opposite. So every head satisfies
`head(-d) == -head(d)`. All heads start as the identity. All are homogeneous, `head(c d) == c head(d)` for c > 0, so a
difference may be normalised before or after.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HeadName = Literal["identity", "linear", "mlp"]


class LinearHead(nn.Module):
    """`W d` without bias, W starting as the identity: ranking stays a projection on one axis.

    Shape: (P, D) -> (P, D).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(width))

    def forward(self, difference: Tensor) -> Tensor:
        return _linear(difference, self.weight)


class MLPHead(nn.Module):
    """Residual two-layer perceptron g, made odd: `d + |d| (g(u) - g(-u)) / 2` with `u = d / |d|`.

    The last layer starts at zero, so the head starts as the identity. The hidden layer needs its bias: without it
    GELU(x) - GELU(-x) = x, and the head would be linear.

    Shape: (P, D) -> (P, D).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.output.weight)

    def forward(self, difference: Tensor) -> Tensor:
        norm = difference.norm(dim=-1, keepdim=True)
        unit = F.normalize(difference, dim=-1)
        forward, backward = (F.gelu(_linear(way, self.hidden.weight, self.hidden.bias)) for way in (unit, -unit))
        odd = _linear(forward - backward, self.output.weight) / 2
        projected: Tensor = difference + norm * odd
        return projected


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear map in the precision of its inputs: float32 embeddings stay float32 with half-precision weights."""
    return F.linear(inputs, weight.to(inputs.dtype), None if bias is None else bias.to(inputs.dtype))


HEADS: dict[HeadName, Callable[[int], nn.Module]] = {"identity": nn.Identity, "linear": LinearHead, "mlp": MLPHead}


def build_head(name: HeadName, width: int) -> nn.Module:
    """Return a new head by name for embeddings of width D."""
    return HEADS[name](width)
