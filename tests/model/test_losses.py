"""Losses against hand-computed values and independent few-line implementations in float64."""

import math

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.model.losses import LOSSES, Counted, row_keys, sign_loss


def unit(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


OPEN_CLIP = {
    "contrastive": ClipLoss(local_loss=True, gather_with_grad=True),
    "sigmoid": SigLipLoss(),
}


@pytest.mark.parametrize("name", OPEN_CLIP)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_duplicates_it_is_open_clips_loss_to_the_bit(name: str, dtype: torch.dtype) -> None:
    found = []
    for loss in (LOSSES[name], OPEN_CLIP[name]):  # type: ignore[arg-type]
        inputs = [value.to(dtype).requires_grad_() for value in (*unit(2, 6, 5), torch.tensor(7.0), torch.tensor(-3.0))]
        everyone = torch.ones(6, dtype=torch.bool)
        keys = () if loss is OPEN_CLIP[name] else (torch.arange(12).view(6, 2), Counted(everyone, everyone))
        value = loss(*inputs, *keys)
        found.append((value, *torch.autograd.grad(value, inputs, allow_unused=True)))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*found, strict=True))


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_duplicates_are_not_negatives(name: str) -> None:
    d, t = unit(2, 6, 5)
    # 0 and 3 share their first key, 1 and 4 their second; the keys of 2 and 5 are equal, but not in the same column.
    keys = torch.tensor([[1, 10], [2, 20], [3, 30], [1, 40], [4, 20], [30, 3]])
    left_out = {(0, 3), (3, 0), (1, 4), (4, 1)}
    expected, scale, bias = 0.0, 7.0, -3.0
    for i in range(6):
        for rows, columns in ((d, t), (t, d)):
            logits = {j: scale * float(rows[i] @ columns[j]) for j in range(6) if (i, j) not in left_out}
            if name == "contrastive":
                expected += (math.log(sum(map(math.exp, logits.values()))) - logits[i]) / 12
            else:
                signed = (-(1 if i == j else -1) * (value + bias) for j, value in logits.items())
                expected += sum(math.log1p(math.exp(value)) for value in signed) / 12
    given = torch.tensor(bias, dtype=torch.float64) if name == "sigmoid" else None
    loss = LOSSES[name](d, t, torch.tensor(scale, dtype=torch.float64), given, keys)
    assert float(loss) == pytest.approx(expected, abs=1e-12)


def test_pairs_that_are_all_alike_have_no_loss_and_no_gradient() -> None:
    d = unit(3, 4).requires_grad_()
    loss = LOSSES["contrastive"](d, unit(3, 4), torch.tensor(7.0).double(), None, torch.ones(3, 1, dtype=torch.long))
    loss.backward()
    assert loss == 0
    assert torch.equal(d.grad, torch.zeros_like(d))  # type: ignore[arg-type]


def test_keys_of_rows_do_not_depend_on_padding() -> None:
    rows = torch.tensor([[49406, 5, 7, 49407], [49406, 7, 5, 49407], [49406, 5, 49407, 0]])
    keys = row_keys(rows)
    assert len(set(keys.tolist())) == 3
    assert torch.equal(row_keys(torch.nn.functional.pad(rows, (0, 73))), keys)
    assert row_keys(rows[2:, :3]) == keys[2]
    every = torch.cartesian_prod(*[torch.arange(40)] * 3)
    assert len(row_keys(every).unique()) == len(every)


@pytest.mark.parametrize("name", LOSSES)
def test_swapping_first_and_second_raises_the_loss(name: str) -> None:
    images = unit(4, 6)
    first, second = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 2, 3, 0])
    d = normalize(images[first] - images[second], dim=-1)
    swapped = normalize(images[second] - images[first], dim=-1)
    scale, bias = torch.tensor(10.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    loss = LOSSES[name]  # type: ignore[arg-type]
    assert loss(d, d, scale, bias) < loss(swapped, d, scale, bias)


def test_sign_loss_is_the_choice_between_a_pair_and_its_reverse() -> None:
    d, t = unit(5, 8), unit(5, 8).flip(0)
    cosines = [float(d[i] @ t[i]) for i in range(5)]
    expected = -sum(math.log(math.exp(7 * c) / (math.exp(7 * c) + math.exp(-7 * c))) for c in cosines) / 5
    assert float(sign_loss(d, t, torch.tensor(7.0))) == pytest.approx(expected, abs=1e-9)
