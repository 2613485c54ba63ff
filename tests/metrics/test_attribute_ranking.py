"""Attribute ranking: known answers, direction, an independent implementation, and scipy's correlations."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray
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
PAIR_METRICS = ("sign_accuracy", "forced_choice", "role_test", "swapped_choice")


@pytest.fixture
def values() -> Tensor:
    """Sizes of the 40 images, with ties and two unknown."""
    values = torch.randint(8, (40,), generator=torch.Generator().manual_seed(0)).double()
    values[[4, 17]] = torch.nan
    return values


def by_metric(results: list[Metric]) -> dict[str, Metric]:
    return {result.name: result for result in results}


def perfect(make_encoder: Callable[..., Any], reads_words: bool) -> Any:
    """Axis 0 is size. A model that reads no words but the order of mention takes "second ... first" for its reverse."""
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
    right = by_metric(attribute_ranking(encoder, images, {"size": values}, {"size": WORDINGS}, bootstrap=Bootstrap(50)))
    flipped = [Wording(wording.reverse, wording.text) for wording in WORDINGS]
    wrong = by_metric(attribute_ranking(encoder, images, {"size": values}, {"size": flipped}, bootstrap=Bootstrap(50)))
    for metric in PAIR_METRICS:
        assert right[metric].value == 1
        assert (right[metric].low, right[metric].high) == pytest.approx((1, 1))
        assert wrong[metric].value == 0
    for metric in ("spearman", "kendall"):
        assert right[metric].value > 0.99
        assert wrong[metric].value == pytest.approx(-right[metric].value)


def test_order_of_mention_is_found_out(make_encoder: Callable[..., Any], values: Tensor) -> None:
    encoder = perfect(make_encoder, reads_words=False)
    results = by_metric(
        attribute_ranking(encoder, graded(values), {"size": values}, {"size": WORDINGS}, bootstrap=Bootstrap(5))
    )
    assert results["forced_choice"].value == 1
    assert results["role_test"].value == 0.5  # the same embedding: a tie
    assert results["swapped_choice"].value == 0


def test_reversing_values_or_texts_mirrors_every_metric(
    make_encoder: Callable[..., Any], images: Tensor, values: Tensor
) -> None:
    encoder = make_encoder(head=torch.randn(16, 16, generator=torch.Generator().manual_seed(5)))
    straight = by_metric(
        attribute_ranking(encoder, images, {"size": values}, {"size": WORDINGS}, bootstrap=Bootstrap(20))
    )
    mirrored = by_metric(
        attribute_ranking(encoder, images, {"size": -values}, {"size": WORDINGS}, bootstrap=Bootstrap(20))
    )
    for metric in ("forced_choice", "role_test", "swapped_choice", "sign_accuracy"):
        assert mirrored[metric].value == pytest.approx(1 - straight[metric].value, abs=1e-6)
    for metric in ("spearman", "kendall"):
        assert mirrored[metric].value == pytest.approx(-straight[metric].value, abs=1e-5)


def test_interval_of_a_pair_metric_equals_scipys_over_images(
    make_encoder: Callable[..., Any], images: Tensor, values: Tensor
) -> None:
    encoder, known = make_encoder(), ~values.isnan()
    results = attribute_ranking(encoder, images, {"size": values}, {"size": WORDINGS}, bootstrap=Bootstrap(5000))
    scores = attribute_scores(encoder, images[known], WORDINGS)
    right = (scores[:, :, None] > scores[:, None, :]).double().mean(0).numpy()
    more = (values[known, None] > values[None, known]).double().numpy()

    def forced_choice(drawn: NDArray[np.int64]) -> float:
        pairs = np.ix_(drawn, drawn)  # a pair comes as often as both of its images
        return float((right[pairs] * more[pairs]).sum() / more[pairs].sum())

    theirs = scipy.stats.bootstrap(
        (np.arange(len(more)),),
        forced_choice,
        n_resamples=5000,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = by_metric(results)["forced_choice"]
    assert ours.value == pytest.approx(forced_choice(np.arange(len(more))), abs=1e-6)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert ours.high - ours.low > 0.1  # much wider than that


def test_equals_a_plain_loop_and_scipy(make_encoder: Callable[..., Any], images: Tensor, values: Tensor) -> None:
    encoder = make_encoder(head=torch.randn(16, 16, generator=torch.Generator().manual_seed(5)))
    results = by_metric(
        attribute_ranking(encoder, images, {"size": values}, {"size": WORDINGS}, min_gap=1.5, bootstrap=Bootstrap(200))
    )
    judged: dict[str, list[float]] = {metric: [] for metric in PAIR_METRICS}
    pairs = 0
    for one in range(40):
        for other in range(40):
            if not values[one] - values[other] > 1.5:
                continue
            pairs += 1
            for wording in WORDINGS:
                for first, second, text, reverse in (
                    (one, other, wording.text, wording.reverse),
                    (other, one, wording.reverse, wording.text),
                ):
                    difference = encoder.difference(images[first : first + 1], images[second : second + 1])[0]

                    def cosine(sentence: str, difference: Tensor = difference) -> float:
                        return float(encoder.encode_texts([sentence])[0] @ difference)

                    judged["sign_accuracy"].append(cosine(text) > 0)
                    judged["forced_choice"].append(cosine(text) > cosine(reverse))
                    judged["role_test"].append(cosine(text) > cosine(swap_roles(text)))
                    judged["swapped_choice"].append(cosine(swap_roles(reverse)) > cosine(swap_roles(text)))
    for metric in PAIR_METRICS:
        assert results[metric].value == pytest.approx(sum(judged[metric]) / len(judged[metric]), abs=1e-6)
        assert results[metric].n == pairs
        assert results[metric].low < results[metric].value < results[metric].high

    known = ~values.isnan()
    scores = attribute_scores(encoder, images[known], WORDINGS)
    rho = [scipy.stats.spearmanr(row, values[known]).statistic for row in scores]
    tau = [scipy.stats.kendalltau(row, values[known]).statistic for row in scores]
    assert results["spearman"].value == pytest.approx(sum(rho) / 2, abs=1e-5)
    assert results["spearman_lowest"].value == pytest.approx(min(rho), abs=1e-5)
    assert results["spearman_highest"].value == pytest.approx(max(rho), abs=1e-5)
    assert results["kendall"].value == pytest.approx(sum(tau) / 2, abs=1e-5)
    assert results["spearman"].n == 38
    assert results["forced_choice_lowest"].value <= results["forced_choice"].value


def test_score_order_is_forced_choice_for_a_linear_head(make_encoder: Callable[..., Any], images: Tensor) -> None:
    values = torch.arange(40.0)
    encoder = make_encoder(head=torch.randn(16, 16, generator=torch.Generator().manual_seed(5)))
    results = by_metric(
        attribute_ranking(encoder, images, {"size": values}, {"size": WORDINGS[:1]}, bootstrap=Bootstrap(5))
    )
    # both count the pairs whose order on one axis is right
    assert results["kendall"].value == pytest.approx(2 * results["forced_choice"].value - 1, abs=1e-5)
    assert "spearman_lowest" not in results


def test_pairs_of_some_images_and_ranks_of_all(
    make_encoder: Callable[..., Any], images: Tensor, values: Tensor
) -> None:
    images = normalize(graded(values) + 0.2 * images, dim=-1)

    def measured(**settings: Any) -> dict[str, Metric]:
        prompts = {"size": [Wording("big", "small")]}
        return by_metric(
            attribute_ranking(
                make_encoder(), images, {"size": values}, {"size": WORDINGS}, prompts=prompts, ceiling=True, **settings
            )
        )

    every, some, other = measured(), measured(pair_images=12), measured(pair_images=12, bootstrap=Bootstrap(seed=1))
    assert measured(pair_images=38) == every
    ranks = {metric for metric in every if "spearman" in metric or metric in ("kendall", "share_of_ceiling")}
    assert len(ranks) == 8
    for metric in every:
        assert (some[metric] == every[metric]) == (metric in ranks), metric
    assert some["forced_choice"].n == some["ceiling_forced_choice"].n == some["prompt_forced_choice"].n <= 66
    assert some["sign_accuracy"].value != other["sign_accuracy"].value
    assert all(some[metric].low < some[metric].value < some[metric].high for metric in PAIR_METRICS)


def test_pairs_of_some_images_are_those_of_a_draw(make_encoder: Callable[..., Any], images: Tensor) -> None:
    values = torch.arange(40.0)
    drawn = torch.randperm(40, generator=torch.Generator().manual_seed(5))[:12].sort().values
    some = attribute_ranking(
        make_encoder(), images, {"size": values}, {"size": WORDINGS}, pair_images=12, bootstrap=Bootstrap(0, 5)
    )
    alone = attribute_ranking(
        make_encoder(), images[drawn], {"size": values[drawn]}, {"size": WORDINGS}, bootstrap=Bootstrap(0)
    )
    for metric in PAIR_METRICS:
        assert by_metric(some)[metric].value == by_metric(alone)[metric].value
        assert by_metric(some)[metric].n == 66


@pytest.mark.parametrize("least_but", [0, 17, 39])
def test_a_rare_value_is_always_among_the_drawn(
    make_encoder: Callable[..., Any], images: Tensor, least_but: int
) -> None:
    values = torch.zeros(40)
    values[least_but] = 1
    for seed in range(40):
        judged = JudgedAttribute.of("size", images, values, None, 0.0, 3, Bootstrap(20, seed))
        assert len(set(judged.paired.tolist())) == 3
        assert least_but in judged.paired
    results = attribute_ranking(
        make_encoder(), images, {"size": values}, {"size": WORDINGS}, pair_images=3, bootstrap=Bootstrap(20)
    )
    assert by_metric(results)["forced_choice"].n == 2
    assert by_metric(results)["spearman"].n == 40


def test_close_values_of_large_size_keep_their_order(make_encoder: Callable[..., Any], images: Tensor) -> None:
    order = torch.arange(40, dtype=torch.float64)
    images = normalize(graded(order / 5) + 0.2 * images, dim=-1)
    small, large = (
        by_metric(
            attribute_ranking(
                make_encoder(),
                images,
                {"size": offset + order},
                {"size": WORDINGS},
                ceiling=True,
                bootstrap=Bootstrap(50),
            )
        )
        for offset in (0.0, 1.7e9)
    )
    assert large == small  # float32 would make all of these values one


@pytest.mark.parametrize("texts", [WORDINGS, WORDINGS[:1]])
def test_correlation_of_constant_scores_is_undefined(
    make_encoder: Callable[..., Any], images: Tensor, values: Tensor, texts: list[Wording]
) -> None:
    silent = make_encoder(texts={text: torch.ones(16) for w in WORDINGS for text in (w.text, w.reverse)})
    prompts = {"size": [Wording("big", "small")]}
    results = attribute_ranking(
        silent, images, {"size": values}, {"size": texts}, prompts=prompts, ceiling=True, bootstrap=Bootstrap(50)
    )
    undefined = {result.name for result in results if math.isnan(result.value)}
    derived = {"spearman", "kendall", "spearman_over_prompts", "share_of_ceiling"}
    assert undefined == derived | ({"spearman_lowest", "spearman_highest"} if len(texts) > 1 else set())
    for result in results:
        assert math.isnan(result.low) == math.isnan(result.high) == (result.name in undefined)
    assert by_metric(results)["forced_choice"].value == 0.5  # ties


def test_texts_without_roles_have_no_role_test(make_encoder: Callable[..., Any], images: Tensor) -> None:
    wordings = {"size": [Wording("it is larger", "it is smaller")]}
    results = by_metric(
        attribute_ranking(make_encoder(), images, {"size": torch.arange(40.0)}, wordings, bootstrap=Bootstrap(5))
    )
    assert "forced_choice" in results
    assert "role_test" not in results


@pytest.mark.parametrize(
    ("values", "gap", "message"),
    [
        (torch.ones(40), 0.0, "40 images .* do not differ"),
        (torch.cat([torch.ones(1), torch.full((39,), torch.nan)]), 0.0, "1 images"),
        (torch.arange(40.0), 50.0, "min_gap 50"),
    ],
)
def test_bad_input_names_the_attribute(
    make_encoder: Callable[..., Any], images: Tensor, values: Tensor, gap: float, message: str
) -> None:
    with pytest.raises(ValueError, match=f'"size": .*{message}'):
        attribute_ranking(make_encoder(), images, {"size": values}, {"size": WORDINGS}, min_gap=gap)


def test_scores_use_the_unnormalised_projection(make_encoder: Callable[..., Any], images: Tensor) -> None:
    head = torch.randn(16, 16, generator=torch.Generator().manual_seed(5))
    encoder = make_encoder(head=head)
    axis = encoder.encode_texts([WORDINGS[0].text]) - encoder.encode_texts([WORDINGS[0].reverse])
    expected = (images - images.mean(0)) @ head.T @ axis[0]
    torch.testing.assert_close(attribute_scores(encoder, images, WORDINGS)[0], expected)
    assert normalize(expected, dim=0).std() > 0
