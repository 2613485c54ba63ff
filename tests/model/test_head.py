"""Heads are odd, start as the identity, and do not mind the length of a difference."""

import pytest
import torch
from torch import nn

from pcclip.model.head import build_head

HEADS = ["identity", "linear", "mlp"]


def trained(name: str) -> nn.Module:
    """A head with random weights, as training might leave it."""
    torch.manual_seed(0)
    head = build_head(name, 8).double()  # type: ignore[arg-type]
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    return head


@pytest.mark.parametrize("name", HEADS)
def test_head_is_odd_and_homogeneous(name: str) -> None:
    head = trained(name)
    d = torch.randn(5, 8, dtype=torch.float64)
    torch.testing.assert_close(head(-d), -head(d))
    torch.testing.assert_close(head(3 * d), 3 * head(d))


@pytest.mark.parametrize("name", HEADS)
def test_head_starts_as_identity(name: str) -> None:
    d = torch.randn(5, 8)
    torch.testing.assert_close(build_head(name, 8)(d), d)  # type: ignore[arg-type]


def test_mlp_head_is_not_linear() -> None:
    head = trained("mlp")
    a, b = torch.randn(2, 5, 8, dtype=torch.float64)
    assert (head(a + b) - head(a) - head(b)).abs().max() > 0.1


def test_zero_difference_has_finite_gradient() -> None:
    head = trained("mlp")
    d = torch.zeros(1, 8, dtype=torch.float64, requires_grad=True)
    head(d).sum().backward()
    assert d.grad is not None
    assert d.grad.isfinite().all()
