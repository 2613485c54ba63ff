"""Attribute ranking: known answers, direction, random subsets of images, undefined correlations, bad input."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.attribute_ranking import attribute_ranking, attribute_scores
from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.judged import JudgedAttribute
from pcclip.metrics.protocol import Metric, Wording
from pcclip.roles import swap_roles

WORDINGS = [
    Wording("the first is larger than the second", "the first is smaller than the second"),
    Wording("compared with the second, the first is big", "compared with the second, the first is tiny"),
]
FLIPPED = [Wording(wording.reverse, wording.text) for wording in WORDINGS]
PROMPTS = {"size": [Wording("big", "small")]}
PAIR_METRICS = ("sign_accuracy", "forced_choice", "role_test", "swapped_choice")


def measured(
    encoder: Any, images: Tensor, values: Tensor, texts: list[Wording] = WORDINGS, resamples: int = 50, **settings: Any
) -> dict[str, Metric]:
    settings = {"bootstrap": Bootstrap(resamples)} | settings
    return {row.name: row for row in attribute_ranking(encoder, images, {"size": values}, {"size": texts}, **settings)}


@pytest.fixture
def values() -> Tensor:
    """Sizes of the 40 images, with ties and two unknown."""
    values = torch.randint(8, (40,), generator=torch.Generator().manual_seed(0)).double()
    values[[4, 17]] = torch.nan
    return values


def perfect(make_encoder: Callable[..., Any], reads_words: bool) -> Any:
    """Axis 0 is size. A model that reads the order of mention instead of words takes "second ... first" for its reverse."""
    axis = torch.eye(16)[0]
    texts = {}
    for wording in WORDINGS:
        texts |= {wording.text: axis, wording.reverse: -axis}
        sign = -1 if reads_words else 1
        texts |= {swap_roles(wording.text): sign * axis, swap_roles(wording.reverse): -sign * axis}
    return make_encoder(texts=texts)


def graded(values: Tensor) -> Tensor:
    """Images whose place on axis 0 follows the values."""
    angle = (values.nan_to_num(3.5) / 8 * torch.pi / 2).float()
    images = torch.zeros(len(values), 16)
    images[:, 0], images[:, 1] = angle.sin(), angle.cos()
    return images


def test_perfect_model_and_direction(make_encoder: Callable[..., Any], values: Tensor) -> None:
    encoder, images = perfect(make_encoder, reads_words=True), graded(values)
    right, wrong = measured(encoder, images, values), measured(encoder, images, values, FLIPPED)
    for metric in PAIR_METRICS:
        assert right[metric].value == 1
        assert (right[metric].low, right[metric].high) == pytest.approx((1, 1))
        assert wrong[metric].value == 0
    for metric in ("spearman", "kendall"):
        assert right[metric].value > 0.99
        assert wrong[metric].value == pytest.approx(-right[metric].value)


def test_order_of_mention_is_found_out(make_encoder: Callable[..., Any], values: Tensor) -> None:
    results = measured(perfect(make_encoder, reads_words=False), graded(values), values)
    assert results["forced_choice"].value == 1
    assert results["role_test"].value == 0.5  # the same embedding: a tie
    assert results["swapped_choice"].value == 0


def test_pairs_of_some_images_and_ranks_of_all(
    make_encoder: Callable[..., Any], images: Tensor, values: Tensor
) -> None:
    images = normalize(graded(values) + 0.2 * images, dim=-1)
    settings: dict[str, Any] = {"prompts": PROMPTS, "ceiling": True}
    every, some = (measured(make_encoder(), images, values, pair_images=n, **settings) for n in (38, 12))
    assert measured(make_encoder(), images, values, **settings) == every
    ranks = {metric for metric in every if "spearman" in metric or metric in ("kendall", "share_of_ceiling")}
    assert len(ranks) == 8
    for metric in every:
        assert (some[metric] == every[metric]) == (metric in ranks), metric
    assert some["forced_choice"].n == some["ceiling_forced_choice"].n == some["prompt_forced_choice"].n <= 66


def test_pairs_of_some_images_are_those_of_a_draw(make_encoder: Callable[..., Any], images: Tensor) -> None:
    values = torch.arange(40.0)
    drawn = torch.randperm(40, generator=torch.Generator().manual_seed(5))[:12].sort().values
    some = measured(make_encoder(), images, values, pair_images=12, bootstrap=Bootstrap(0, 5))
    alone = measured(make_encoder(), images[drawn], values[drawn], resamples=0)
    for metric in PAIR_METRICS:
        assert (some[metric].value, some[metric].n) == (alone[metric].value, 66)


@pytest.mark.parametrize("rare", [0, 17, 39])
def test_a_rare_value_is_always_among_the_drawn(make_encoder: Callable[..., Any], images: Tensor, rare: int) -> None:
    values = torch.zeros(40)
    values[rare] = 1
    for seed in range(40):
        judged = JudgedAttribute.of("size", images, values, None, 0.0, 3, Bootstrap(20, seed))
        assert len(set(judged.paired.tolist())) == 3
        assert rare in judged.paired
    results = measured(make_encoder(), images, values, pair_images=3)
    assert (results["forced_choice"].n, results["spearman"].n) == (2, 40)


def test_close_values_of_large_size_keep_their_order(make_encoder: Callable[..., Any], images: Tensor) -> None:
    order = torch.arange(40, dtype=torch.float64)
    images = normalize(graded(order / 5) + 0.2 * images, dim=-1)
    small, large = (measured(make_encoder(), images, offset + order, ceiling=True) for offset in (0.0, 1.7e9))
    assert large == small  # float32 would make all of these values one


@pytest.mark.parametrize("texts", [WORDINGS, WORDINGS[:1]])
def test_correlation_of_constant_scores_is_undefined(
    make_encoder: Callable[..., Any], images: Tensor, values: Tensor, texts: list[Wording]
) -> None:
    silent = make_encoder(texts={text: torch.ones(16) for w in WORDINGS for text in (w.text, w.reverse)})
    results = measured(silent, images, values, texts, prompts=PROMPTS, ceiling=True)
    undefined = {name for name, result in results.items() if math.isnan(result.value)}
    derived = {"spearman", "kendall", "spearman_over_prompts", "share_of_ceiling"}
    assert undefined == derived | ({"spearman_lowest", "spearman_highest"} if len(texts) > 1 else set())
    for name, result in results.items():
        assert math.isnan(result.low) == math.isnan(result.high) == (name in undefined)


@pytest.mark.parametrize(
    ("values", "gap", "named"),
    [
        (torch.ones(40), 0.0, "40 images .* 0;"),
        (torch.cat([torch.ones(1), torch.full((39,), torch.nan)]), 0.0, "1 images"),
        (torch.full((40,), torch.nan), 0.0, "0 images"),
        (torch.arange(40.0), 50.0, "40 images .* 50;"),
    ],
)
def test_bad_input_names_the_attribute(
    make_encoder: Callable[..., Any], images: Tensor, values: Tensor, gap: float, named: str
) -> None:
    with pytest.raises(ValueError, match=f'"size": .*{named}'):
        measured(make_encoder(), images, values, min_gap=gap)


def test_scores_use_the_unnormalised_projection(make_encoder: Callable[..., Any], images: Tensor) -> None:
    head = torch.randn(16, 16, generator=torch.Generator().manual_seed(5))
    encoder = make_encoder(head=head)
    axis = encoder.encode_texts([WORDINGS[0].text]) - encoder.encode_texts([WORDINGS[0].reverse])
    expected = (images - images.mean(0)) @ head.T @ axis[0]
    torch.testing.assert_close(attribute_scores(encoder, images, WORDINGS)[0], expected)
