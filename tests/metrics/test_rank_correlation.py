"""Rank correlations as functions of weights, against scipy on repeated images."""

import pytest
import scipy.stats
import torch

from pcclip.metrics import rank_correlation
from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.rank_correlation import weighted_kendall, weighted_ranks, weighted_spearman


@pytest.mark.parametrize("levels", [2, 3, 64, 1000])
def test_any_number_of_levels_and_of_chunks(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = (torch.randint(levels, (300,), generator=torch.Generator().manual_seed(seed)).float() for seed in (0, 1))
    x, weights = x + y, Bootstrap(6).draw(300).weights
    whole = weighted_spearman(weights, x, y), weighted_kendall(weights, x, y)
    monkeypatch.setattr(rank_correlation, "_CHUNK_FLOATS", 700)  # two resamples at a time
    torch.testing.assert_close((weighted_spearman(weights, x, y), weighted_kendall(weights, x, y)), whole)
    for row, ranks, rank, tau in zip(weights, weighted_ranks(weights, x), *whole, strict=True):
        repeated = [values.repeat_interleave(row.long()) for values in (x, y)]
        expected = torch.from_numpy(scipy.stats.rankdata(repeated[0])).float()
        torch.testing.assert_close(ranks.repeat_interleave(row.long()), expected, rtol=0, atol=0)
        assert float(rank) == pytest.approx(scipy.stats.spearmanr(*repeated).statistic, abs=1e-5)
        assert float(tau) == pytest.approx(scipy.stats.kendalltau(*repeated).statistic, abs=1e-5)


def test_many_images() -> None:
    y = torch.arange(20_000).float()  # counts of pairs that float32 cannot hold
    x = torch.cat([y[10_000:], y[:10_000].flip(0)])
    ones = torch.ones(1, len(y))
    assert float(weighted_spearman(ones, x, y)) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-5)
    assert float(weighted_kendall(ones, x, y)) == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-6)
    halves = (y >= 10_000).float()
    assert float(weighted_kendall(ones, x, halves)) == pytest.approx(
        scipy.stats.kendalltau(x, halves).statistic, abs=1e-6
    )


def test_scores_of_a_model_that_diverged_have_no_order() -> None:
    scores, values = torch.arange(50.0), torch.arange(50.0)
    scores[3] = torch.nan
    for correlation in (weighted_spearman, weighted_kendall):
        assert correlation(torch.ones(2, 50), scores, values).isnan().all()


@pytest.mark.parametrize("count", [3, 50, 20_001])
def test_constants_have_no_correlation(count: int) -> None:
    varied, same = torch.arange(float(count)), torch.full((count,), 0.1)
    weights = Bootstrap(3).draw(count).weights
    for correlation in (weighted_spearman, weighted_kendall):
        for x, y in ((same, varied), (varied, same)):
            assert correlation(weights, x, y).isnan().all()
