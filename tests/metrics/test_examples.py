"""Axes from examples: what they find, in which direction, which images they are drawn from, and that these are not judged."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.attribute_ranking import attribute_ranking
from pcclip.metrics.axes import blended_axis, example_axis, text_axes, text_weights
from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.ceiling import folds
from pcclip.metrics.examples import draw_extremes
from pcclip.metrics.protocol import Metric, Wording

WORDINGS = [Wording("the first is larger", "the first is smaller"), Wording("the first is big", "the first is tiny")]


def measured(
    encoder: Any, images: Tensor, values: Tensor, groups: Tensor | None = None, **settings: Any
) -> dict[tuple[str, float | None], Metric]:
    settings = {"examples": [1, 5], "bootstrap": Bootstrap(20)} | settings
    rows = attribute_ranking(encoder, images, {"size": values}, {"size": WORDINGS}, groups=groups, **settings)
    return {(row.name, row.factor): row for row in rows}


def graded(encoder: Any, noise: float) -> tuple[Tensor, Tensor]:
    """80 images whose value follows the mean of the encoder's text axes."""
    generator = torch.Generator().manual_seed(0)
    axis = normalize(text_axes(encoder, WORDINGS), dim=-1).mean(0)
    values = torch.rand(80, generator=generator).double()
    images = noise * torch.randn(80, 16, generator=generator) + values[:, None].float() * normalize(axis, dim=0)
    return normalize(images + torch.randn(16, generator=generator), dim=-1), values


def test_more_examples_rank_better_and_texts_help(make_encoder: Callable[..., Any]) -> None:
    encoder = make_encoder()
    images, values = graded(encoder, noise=0.2)
    found = measured(encoder, images, values)
    (one, five), (blended_one, blended_five) = (
        [found[name, k].value for k in (1, 5)] for name in ("example_spearman", "blended_spearman")
    )
    assert 0 < one < five < 1
    assert one < blended_one
    assert found["spearman", None].value < blended_five  # the wordings tell the examples apart, so they weigh most
    for key in found:
        if key[1] is not None:
            assert found[key].low < found[key].value < found[key].high
            assert found[key].n == 80
    backwards = measured(encoder, images, -values)
    assert backwards["example_spearman", 5].value > 0.5  # the examples follow the values
    # the texts do not, so they weigh next to nothing
    assert backwards["blended_spearman", 5].value == pytest.approx(backwards["example_spearman", 5].value, abs=0.02)


def test_scores_are_those_of_examples_from_other_folds(make_encoder: Callable[..., Any]) -> None:
    encoder = make_encoder(head=torch.randn(16, 16, generator=torch.Generator().manual_seed(5)))
    images, values = graded(encoder, noise=0.2)
    generator, scores = torch.Generator().manual_seed(3), torch.zeros(3, 80)
    for train, test in folds(torch.arange(80), 3):
        high, low = (train[end] for end in draw_extremes(values[train], 5, generator))
        axis = normalize((images[high].mean(0) - images[low].mean(0)) @ encoder.head.T, dim=0)
        texts = [encoder.encode_texts([w.text])[0] - encoder.encode_texts([w.reverse])[0] for w in WORDINGS]
        used_axes = [axis]
        for text in texts:
            of_high, of_low = (images[end] @ encoder.head.T @ text for end in (high, low))
            correct = float(scipy.stats.mannwhitneyu(of_high, of_low).statistic)  # of 25 pairs
            distinct = float(text.norm()) ** 2 / 4
            odds = distinct / (1 - distinct) * ((correct + 0.5) / (25.5 - correct)) ** 3
            weight = odds / (1 + odds)
            used_axes.append((1 - weight) * axis + weight * normalize(text, dim=0))
        for row, used in enumerate(used_axes):
            scores[row, test] = (images[test] - images.mean(0)) @ encoder.head.T @ used
    expected = [float(scipy.stats.spearmanr(row, values).statistic) for row in scores]
    found = measured(encoder, images, values, examples=[5], draws=1, bootstrap=Bootstrap(0, 3))
    assert found["example_spearman", 5].value == pytest.approx(expected[0], abs=1e-6)
    assert found["blended_spearman", 5].value == pytest.approx((expected[1] + expected[2]) / 2, abs=1e-6)


def test_classes_of_examples_are_not_judged(make_encoder: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(320) % 40
    centres = torch.randn(40, 64, generator=generator)
    images = normalize(centres[classes] + 0.3 * torch.randn(320, 64, generator=generator), dim=-1)
    drawn = [torch.rand(40, generator=generator)[classes].double() for _ in range(6)]  # nothing to learn but classes
    found = [measured(make_encoder(width=64), images, values, classes)["example_spearman", 5].value for values in drawn]
    assert abs(sum(found) / 6) < 0.15
    alone = [measured(make_encoder(width=64), images, values)["example_spearman", 5].value for values in drawn]
    assert all(recognised > apart + 0.1 for recognised, apart in zip(alone, found, strict=True))


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        (torch.arange(100.0), 3, (range(90, 100), range(10))),
        (torch.arange(100.0), 20, (range(80, 100), range(20))),
        (torch.arange(100.0).double().exp(), 5, (range(90, 100), range(10))),
        ((torch.arange(100) < 4).double(), 4, (range(4), range(4, 100))),
        ((torch.arange(100) < 96).double(), 4, (range(96), range(96, 100))),
    ],
)
def test_examples_are_of_the_extremes(values: Tensor, count: int, expected: tuple[range, range]) -> None:
    drawn = [draw_extremes(values, count, torch.Generator().manual_seed(seed)) for seed in range(200)]
    for place, end in enumerate(expected):
        found = [set(ends[place].tolist()) for ends in drawn]
        assert {len(each) for each in found} == {count}
        assert set().union(*found) == set(end)  # each of them is drawn sometime


def test_too_few_examples_are_undefined(make_encoder: Callable[..., Any], images: Tensor) -> None:
    values = (torch.arange(40) < 6).double()
    found = measured(make_encoder(), images, values, examples=[2, 6])
    for name in ("example_spearman", "blended_spearman"):
        assert not math.isnan(found[name, 2].value)
        assert math.isnan(found[name, 6].value)  # some of the six are in the judged fold
    assert not any(
        name.startswith(("example", "blended")) for name, _ in measured(make_encoder(), images[:9], values[:9])
    )


def test_blends_scale_both_axes_to_unit_length(make_encoder: Callable[..., Any], images: Tensor) -> None:
    axis = example_axis(make_encoder(), images[:3], images[3:5])
    torch.testing.assert_close(axis, normalize(images[:3].mean(0) - images[3:5].mean(0), dim=0))
    text = torch.randn(2, 16)
    torch.testing.assert_close(blended_axis(text, axis, 0), axis.expand(2, -1))
    torch.testing.assert_close(blended_axis(9 * text, axis, 1), normalize(text, dim=-1))


def test_texts_weigh_by_how_well_they_order_examples(make_encoder: Callable[..., Any]) -> None:
    high, low = torch.eye(16)[:2], torch.eye(16)[2:5]
    right, wrong = high.sum(0) - low.sum(0), low.sum(0) - high.sum(0)
    half_right = torch.eye(16)[0] - torch.eye(16)[1]  # orders three of six pairs correctly
    mostly_right = torch.eye(16)[:3].T @ torch.tensor([1.0, 0.5, 0.7])  # five of six
    texts = normalize(torch.stack([right, mostly_right, half_right, wrong]), dim=1)
    orthogonal = text_weights(make_encoder(), 2**0.5 * texts, high, low)[:, 0]  # a text and its reverse
    odds = torch.tensor([13.0, 11 / 3, 1.0, 1 / 13]) ** 3
    torch.testing.assert_close(orthogonal, odds / (1 + odds))
    close = text_weights(make_encoder(), 0.2 * texts, high, low)[:, 0]
    torch.testing.assert_close(close, odds / 99 / (1 + odds / 99))  # s is .01
    torch.testing.assert_close(text_weights(make_encoder(), 0 * texts, high, low), torch.zeros(4, 1))
