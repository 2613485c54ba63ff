"""Bootstrap intervals against scipy, and what is drawn."""

import numpy as np
import pytest
import scipy.stats
import torch

from pcclip.metrics.bootstrap import Bootstrap


def test_interval_of_a_mean_equals_scipys() -> None:
    x = torch.rand(80, generator=torch.Generator().manual_seed(0))
    mean = Bootstrap(20_000).draw(80).mean("mean", x)
    theirs = scipy.stats.bootstrap(
        (x.numpy(),), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert mean.value == pytest.approx(x.mean())
    assert mean.low == pytest.approx(theirs.low, abs=2e-3)
    assert mean.high == pytest.approx(theirs.high, abs=2e-3)


def test_pairs_sharing_images_widen_the_interval() -> None:
    # outcomes decided by the image alone: drawing pairs as if independent would hide how few images there are
    outcome = (torch.rand(30, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    pairs = (1 - torch.eye(30)).nonzero().T
    by_image = Bootstrap().draw(30).tuple_mean("", pairs, outcome[pairs[0]])
    naive = Bootstrap().draw(pairs.shape[1]).mean("", outcome[pairs[0]])
    assert by_image.high - by_image.low > 3 * (naive.high - naive.low)


def test_draws_are_the_same_for_every_model() -> None:
    first, second, other = (Bootstrap(5, seed).draw(12).weights for seed in (0, 0, 1))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert (first.sum(1) == 12).all()
    assert not torch.equal(first, other)
    with pytest.raises(ValueError, match="no item"):
        Bootstrap().draw(0)
