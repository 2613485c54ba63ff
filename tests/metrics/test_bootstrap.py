"""Bootstrap statistics against scipy: point estimates with weights of one, and intervals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from pcclip.metrics.bootstrap import (
    interval,
    listed_pair_mean,
    quadratic_form,
    resample_weights,
    weighted_mean,
)


def test_interval_of_a_mean_equals_scipys() -> None:
    x = torch.rand(80, generator=torch.Generator().manual_seed(0))
    low, high = interval(weighted_mean(resample_weights(80, 20_000), x))
    theirs = scipy.stats.bootstrap(
        (x.numpy(),), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert low == pytest.approx(theirs.low, abs=2e-3)
    assert high == pytest.approx(theirs.high, abs=2e-3)


def test_pairs_by_list_equal_pairs_by_matrix() -> None:
    weights = resample_weights(9, 30)
    values = torch.rand(9, 9, generator=torch.Generator().manual_seed(0))
    valid = 1 - torch.eye(9)
    first, second = valid.nonzero().T
    by_matrix = quadratic_form(weights, values * valid) / quadratic_form(weights, valid)
    torch.testing.assert_close(listed_pair_mean(weights, first, second, values[first, second]), by_matrix)


def test_pairs_sharing_images_widen_the_interval() -> None:
    # outcomes decided by the image alone: drawing pairs as if independent would hide how few images there are
    outcome = (torch.rand(30, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    valid = 1 - torch.eye(30)
    weights = resample_weights(30, 1000)
    low, high = interval(quadratic_form(weights, outcome[:, None] * valid) / quadratic_form(weights, valid))
    pairs = outcome[:, None].expand(30, 30)[valid > 0]
    naive_low, naive_high = interval(weighted_mean(resample_weights(len(pairs), 1000), pairs))
    assert high - low > 3 * (naive_high - naive_low)


def test_draws_are_the_same_for_every_model() -> None:
    torch.testing.assert_close(resample_weights(12, 5), resample_weights(12, 5), rtol=0, atol=0)
    assert (resample_weights(12, 5).sum(1) == 12).all()
    assert not torch.equal(resample_weights(12, 5), resample_weights(12, 5, seed=1))
    with pytest.raises(ValueError, match="cannot draw"):
        resample_weights(0)
