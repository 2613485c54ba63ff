"""Weight-space ensembling."""

from __future__ import annotations

import pytest
import torch

from pcclip.tools.ensemble import blend

BASE = {"weight": torch.tensor([0.0, 2.0]), "count": torch.tensor(3)}
TUNED = {"weight": torch.tensor([1.0, 4.0]), "count": torch.tensor(8)}


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, [0.0, 2.0]), (0.25, [0.25, 2.5]), (1.0, [1.0, 4.0])])
def test_blend(alpha: float, expected: list[float]) -> None:
    blended = blend(BASE, TUNED, alpha)
    assert blended["weight"].tolist() == expected
    assert int(blended["count"]) == 8
    assert BASE["weight"].tolist() == [0.0, 2.0]


def test_unchanged_weights_stay_exact() -> None:
    same = {"weight": torch.rand(1000, generator=torch.Generator().manual_seed(0))}
    assert torch.equal(blend(same, same, 0.3)["weight"], same["weight"])


def test_states_of_different_models_are_refused() -> None:
    with pytest.raises(ValueError, match=r"only one of the two states has \['count'\]"):
        blend({"weight": BASE["weight"]}, TUNED, 0.5)
    with pytest.raises(ValueError, match="cannot blend weight"):
        blend(BASE, {**TUNED, "weight": torch.zeros(3)}, 0.5)
