"""The supervised ceiling: what it finds, that it is out of fold, and that its folds keep classes whole."""

from collections.abc import Callable
from typing import Any

import pytest
import scipy.stats
import torch
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.attribute_ranking import attribute_ranking
from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.ceiling import _PENALTIES, has_ceiling, ridge_scores, transferred_scores
from pcclip.metrics.protocol import Metric, Wording

WORDING = Wording("the first is larger than the second", "the first is smaller than the second")


def graded(noise: float = 0.05) -> tuple[Tensor, Tensor]:
    """60 images whose place on axis 0 follows their value, not linearly."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(60, generator=generator)
    images = noise * torch.randn(60, 16, generator=generator)
    images[:, 0] += values - 0.5
    images[:, 1] += 1
    return normalize(images, dim=-1), values.exp().exp()


def clusters() -> tuple[Tensor, Tensor]:
    """Images (320, 64) that lie close to the centre of their class, and their 40 classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(320) % 40
    centres = torch.randn(40, 64, generator=generator)
    return normalize(centres[labels] + 0.3 * torch.randn(320, 64, generator=generator), dim=-1), labels


def measured(encoder: Any, images: Tensor, values: Tensor, groups: Tensor | None = None) -> dict[str, Metric]:
    results = attribute_ranking(
        encoder, images, {"size": values}, {"size": [WORDING]}, groups=groups, ceiling=True, bootstrap=Bootstrap(20)
    )
    return {result.name: result for result in results}


def along_axis(make_encoder: Callable[..., Any], sign: int) -> Any:
    noise = 0.4 * torch.randn(2, 16, generator=torch.Generator().manual_seed(7))
    axis = sign * torch.eye(16)[0]
    return make_encoder(texts={WORDING.text: axis + noise[0], WORDING.reverse: noise[1] - axis})


def test_ceiling_is_high_where_there_is_something_to_learn(make_encoder: Callable[..., Any]) -> None:
    images, values = graded()
    results = measured(along_axis(make_encoder, 1), images, values)
    assert results["ceiling_spearman"].value > 0.9
    assert results["ceiling_forced_choice"].value > 0.85
    assert results["ceiling_forced_choice"].n == results["forced_choice"].n
    share = results["share_of_ceiling"]
    assert share.value == pytest.approx(results["spearman"].value / results["ceiling_spearman"].value, abs=1e-6)
    assert share.low < share.value < share.high
    backwards = measured(along_axis(make_encoder, -1), images, values)
    assert backwards["share_of_ceiling"].value < 0
    assert backwards["ceiling_spearman"].value == results["ceiling_spearman"].value
    mirrored = measured(along_axis(make_encoder, 1), images, -values)  # the ceiling follows the values
    assert mirrored["ceiling_spearman"].value == pytest.approx(results["ceiling_spearman"].value, abs=0.05)


@pytest.mark.parametrize("by_class", [False, True])
def test_predictions_are_out_of_fold_and_of_ranks(by_class: bool) -> None:
    if by_class:
        images, classes = clusters()
        values = torch.rand(40, generator=torch.Generator().manual_seed(0))[classes]
    else:
        (images, values), classes = graded(noise=0.2), torch.arange(60)
    found = ridge_scores(images, values, 100 + 2 * classes, seed=3)  # whatever the classes are called
    x, y = images.double().numpy(), scipy.stats.rankdata(values)
    for train, test in KFold(10, shuffle=True, random_state=3).split(range(len(torch.unique(classes)))):
        fitted, held_out = torch.isin(classes, torch.tensor(train)), torch.isin(classes, torch.tensor(test))
        expected = RidgeCV(alphas=_PENALTIES).fit(x[fitted], y[fitted]).predict(x[held_out])
        torch.testing.assert_close(found[held_out], torch.from_numpy(expected).float())
    torch.testing.assert_close(ridge_scores(images, values.log(), classes, seed=3), found)


def test_ceiling_from_other_images_is_fitted_on_their_known_values_alone() -> None:
    images, values = graded(noise=0.2)
    values[3] = torch.nan
    fitted, measured = torch.arange(60) < 40, torch.arange(60) >= 40
    found = transferred_scores(images[fitted], values[fitted], images[measured])
    known = fitted & ~values.isnan()
    expected = RidgeCV(alphas=_PENALTIES).fit(images[known].double().numpy(), scipy.stats.rankdata(values[known]))
    torch.testing.assert_close(found, torch.from_numpy(expected.predict(images[measured].double().numpy())).float())


def test_the_ceiling_does_not_recognise_classes(make_encoder: Callable[..., Any]) -> None:
    images, classes = clusters()

    def ceiling(values: Tensor, groups: Tensor | None = None) -> float:
        return measured(make_encoder(width=64), images, values, groups)["ceiling_spearman"].value

    drawn = [torch.rand(40, generator=torch.Generator().manual_seed(seed))[classes] for seed in range(6)]
    assert ceiling(drawn[0]) > 0.8  # with folds of images, random values are looked up
    correlations = [ceiling(values, classes) for values in drawn]
    assert abs(sum(correlations) / 6) < 0.2
    of_the_class = normalize(torch.randn(64, generator=torch.Generator().manual_seed(9)), dim=0)
    assert ceiling((images @ of_the_class), classes) > 0.5  # what other classes teach is found


def test_ten_groups_and_five_of_either_value_are_needed(make_encoder: Callable[..., Any]) -> None:
    images, classes = clusters()
    for positives in (4, 5):  # classes, of eight images each
        assert has_ceiling((classes < positives).double(), classes) == (positives == 5)
    values = torch.arange(320.0)
    for groups in (9, 10):
        few = classes < groups
        results = measured(make_encoder(width=64), images[few], values[few], classes[few])
        assert ("ceiling_spearman" in results) == (groups == 10)
