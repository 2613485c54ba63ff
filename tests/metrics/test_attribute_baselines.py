"""What stands beside the text axis: ordinary prompts, the supervised ceiling, and the paper's protocol."""

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
from pcclip.metrics.ceiling import _PENALTIES, ridge_scores
from pcclip.metrics.protocol import Metric, Wording

WORDINGS = [Wording("the first is larger than the second", "the first is smaller than the second")]
PROMPTS = [Wording("a large thing", "a small thing"), Wording("something big", "something little")]


def graded(noise: float = 0.05, count: int = 60) -> tuple[Tensor, Tensor]:
    """Images whose place on axis 0 follows their value, not linearly."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(count, generator=generator)
    images = noise * torch.randn(count, 16, generator=generator)
    images[:, 0] += values - 0.5
    images[:, 1] += 1
    return normalize(images, dim=-1), values.exp().exp()


def measured(
    encoder: Any, images: Tensor, values: Tensor, texts: list[Wording] = WORDINGS, **settings: Any
) -> dict[str, Metric]:
    settings = {"bootstrap": Bootstrap(100), **settings}
    results = attribute_ranking(encoder, images, {"size": values}, {"size": texts}, **settings)
    return {result.name: result for result in results}


def along_axis(make_encoder: Callable[..., Any], pairs: list[Wording], sign: float = 1.0, noise: float = 0.0) -> Any:
    generator = torch.Generator().manual_seed(7)
    texts = {}
    for pair in pairs:
        for text, side in ((pair.text, sign), (pair.reverse, -sign)):
            texts[text] = side * torch.eye(16)[0] + noise * torch.randn(16, generator=generator)
    return make_encoder(texts=texts)


def test_prompts_and_direction(make_encoder: Callable[..., Any]) -> None:
    images, values = graded(noise=0.0)
    encoder = along_axis(make_encoder, PROMPTS)
    results = measured(encoder, images, values, prompts={"size": PROMPTS})
    assert results["prompt_forced_choice"].value == 1
    assert results["prompt_spearman"].value == pytest.approx(1)
    assert results["prompt_forced_choice"].n == results["forced_choice"].n
    assert results["spearman_over_prompts"].value == pytest.approx(results["spearman"].value - 1)
    flipped = [Wording(prompt.reverse, prompt.text) for prompt in PROMPTS]
    wrong = measured(encoder, images, values, prompts={"size": flipped})
    assert wrong["prompt_forced_choice"].value == 0
    assert wrong["prompt_spearman"].value == pytest.approx(-1)
    assert "prompt_spearman" not in measured(encoder, images, values, prompts={"age": PROMPTS})


def test_prompt_axis_is_their_difference(make_encoder: Callable[..., Any], images: Tensor) -> None:
    encoder = make_encoder(head=torch.randn(16, 16, generator=torch.Generator().manual_seed(5)))
    values = torch.arange(40.0)
    results = measured(encoder, images, values, prompts={"size": PROMPTS})
    rho, right = [], []
    for prompt in PROMPTS:
        axis = encoder.encode_texts([prompt.text])[0] - encoder.encode_texts([prompt.reverse])[0]
        scores = encoder.project(images) @ axis
        rho.append(scipy.stats.spearmanr(scores, values).statistic)
        right += [float(scores[one] > scores[other]) for one in range(40) for other in range(one)]
    assert results["prompt_spearman"].value == pytest.approx(sum(rho) / 2, abs=1e-5)
    assert results["prompt_forced_choice"].value == pytest.approx(sum(right) / len(right), abs=1e-6)


def test_ceiling_is_high_where_there_is_something_to_learn(make_encoder: Callable[..., Any]) -> None:
    images, values = graded()
    encoder = along_axis(make_encoder, WORDINGS, noise=0.4)
    results = measured(encoder, images, values, ceiling=True)
    assert results["ceiling_spearman"].value > 0.9
    assert results["ceiling_forced_choice"].value > 0.85
    assert results["ceiling_forced_choice"].n == results["forced_choice"].n
    share = results["share_of_ceiling"]
    assert share.value == pytest.approx(results["spearman"].value / results["ceiling_spearman"].value, abs=1e-6)
    assert share.low < share.value < share.high
    backwards = measured(along_axis(make_encoder, WORDINGS, sign=-1, noise=0.4), images, values, ceiling=True)
    assert backwards["share_of_ceiling"].value < 0
    assert backwards["ceiling_spearman"].value == results["ceiling_spearman"].value
    mirrored = measured(encoder, images, -values, ceiling=True)  # the ceiling follows the values
    assert mirrored["ceiling_spearman"].value == pytest.approx(results["ceiling_spearman"].value, abs=0.05)


def test_no_share_of_nothing(make_encoder: Callable[..., Any]) -> None:
    _, values = graded()
    images = normalize(torch.randn(60, 16, generator=torch.Generator().manual_seed(11)), dim=-1)
    results = measured(make_encoder(), images, values, ceiling=True)
    assert results["ceiling_spearman"].value < 0.3
    assert (results["share_of_ceiling"].value != results["share_of_ceiling"].value) == (
        results["ceiling_spearman"].value <= 0
    )


def test_ceiling_is_out_of_fold_and_of_ranks() -> None:
    images, values = graded(noise=0.2)
    each = torch.arange(len(images))
    found = ridge_scores(images, values, each, seed=3)
    x, y = images.double().numpy(), scipy.stats.rankdata(values)
    for train, test in KFold(10, shuffle=True, random_state=3).split(x):
        expected = RidgeCV(alphas=_PENALTIES).fit(x[train], y[train]).predict(x[test])
        torch.testing.assert_close(found[test], torch.from_numpy(expected).float())
    torch.testing.assert_close(ridge_scores(images, values.log(), each, seed=3), found)
    with pytest.raises(ValueError, match="9 images"):
        ridge_scores(images[:9], values[:9], each[:9], seed=0)


def clusters(classes: int, each: int) -> tuple[Tensor, Tensor]:
    """Images (N, 64) that lie close to their class's centre, and their classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(classes * each) % classes
    centres = torch.randn(classes, 64, generator=generator)
    return normalize(centres[labels] + 0.3 * torch.randn(len(labels), 64, generator=generator), dim=-1), labels


def test_the_ceiling_does_not_recognise_classes(make_encoder: Callable[..., Any]) -> None:
    images, classes = clusters(40, 8)

    def ceiling(values: Tensor, groups: Tensor | None = None) -> float:
        encoder = make_encoder(width=64)
        return measured(encoder, images, values, ceiling=True, groups=groups, bootstrap=Bootstrap(0))[
            "ceiling_spearman"
        ].value

    drawn = [torch.rand(40, generator=torch.Generator().manual_seed(seed))[classes] for seed in range(6)]
    assert ceiling(drawn[0]) > 0.8  # with folds of images, random values are looked up
    correlations = [ceiling(values, classes) for values in drawn]
    assert abs(sum(correlations) / 6) < 0.2
    of_the_class = normalize(torch.randn(64, generator=torch.Generator().manual_seed(9)), dim=0)
    assert ceiling((images @ of_the_class), classes) > 0.5  # what other classes teach is found


def test_folds_keep_classes_whole_and_need_ten(make_encoder: Callable[..., Any]) -> None:
    images, classes = clusters(40, 8)
    values = torch.rand(40, generator=torch.Generator().manual_seed(0))[classes]
    found = ridge_scores(images, values, 100 - classes, seed=3)  # whatever the classes are called
    x, y = images.double().numpy(), scipy.stats.rankdata(values)
    for train, test in KFold(10, shuffle=True, random_state=3).split(range(40)):
        # classes in the order of their numbers
        fitted, held_out = torch.isin(39 - classes, torch.tensor(train)), torch.isin(39 - classes, torch.tensor(test))
        expected = RidgeCV(alphas=_PENALTIES).fit(x[fitted], y[fitted]).predict(x[held_out])
        torch.testing.assert_close(found[held_out], torch.from_numpy(expected).float())
    few = classes < 9
    with pytest.raises(ValueError, match=r"size: .* 9 classes"):
        measured(make_encoder(width=64), images[few], values[few], ceiling=True, groups=classes[few])
    for positives in (4, 5):  # classes, of eight images each
        values = (classes < positives).double()
        results = measured(make_encoder(width=64), images, values, ceiling=True, groups=classes, bootstrap=Bootstrap(0))
        assert ("ceiling_spearman" in results) == (positives == 5)


def test_no_ceiling_for_two_positives(make_encoder: Callable[..., Any]) -> None:
    images = normalize(torch.randn(30, 16, generator=torch.Generator().manual_seed(1)), dim=-1)
    for positives in (2, 5):
        values = (torch.arange(30) < positives).double()
        assert ("ceiling_spearman" in measured(make_encoder(), images, values, ceiling=True)) == (positives == 5)


def test_ceiling_names_the_attribute(make_encoder: Callable[..., Any]) -> None:
    images, values = graded(count=8)
    with pytest.raises(ValueError, match="size: the ceiling is cross-validated"):
        measured(make_encoder(), images, values, ceiling=True)


def test_papers_protocol(make_encoder: Callable[..., Any]) -> None:
    images, values = graded(noise=0.3)
    encoder = along_axis(make_encoder, WORDINGS, noise=0.4)
    whole = measured(encoder, images, values, images_per_draw=60, draws=2)
    assert whole["sign_accuracy_paper"].value == pytest.approx(whole["sign_accuracy"].value, abs=1e-6)
    assert whole["sign_accuracy_paper"].n == 2 * whole["sign_accuracy"].n
    drawn = measured(encoder, images, values, images_per_draw=10, draws=5)
    paper, lowest, highest = (drawn[f"sign_accuracy_paper{ending}"] for ending in ("", "_lowest", "_highest"))
    assert lowest.value < paper.value < highest.value
    assert paper.n == 5 * 45
    assert lowest.n == 45
    assert paper.low < paper.value < paper.high
    assert paper.high - paper.low > whole["sign_accuracy_paper"].high - whole["sign_accuracy_paper"].low
    assert drawn["sign_accuracy"] == whole["sign_accuracy"]
    assert measured(encoder, images, values, images_per_draw=10, draws=5) == drawn
    other = measured(encoder, images, values, images_per_draw=10, draws=5, bootstrap=Bootstrap(100, 1))
    assert other["sign_accuracy_paper"].value != paper.value
    turned = [Wording(wording.reverse, wording.text) for wording in WORDINGS]
    swapped = measured(encoder, images, values, texts=turned, images_per_draw=10, draws=5)
    assert swapped["sign_accuracy_paper"].value == pytest.approx(1 - paper.value, abs=1e-6)


def test_papers_protocol_by_a_plain_loop(make_encoder: Callable[..., Any]) -> None:
    images, values = graded(noise=0.3)
    values = (values * 2).round()  # with ties, which are not judged
    encoder = along_axis(make_encoder, WORDINGS, noise=0.4)
    result = measured(encoder, images, values, images_per_draw=12, draws=3, bootstrap=Bootstrap(100, 4))[
        "sign_accuracy_paper"
    ]
    text = encoder.encode_texts([WORDINGS[0].text])[0]
    reverse = encoder.encode_texts([WORDINGS[0].reverse])[0]
    generator = torch.Generator().manual_seed(4)
    accuracies = []
    for _ in range(3):
        drawn = torch.randperm(60, generator=generator)[:12].tolist()
        right = [
            (float((images[one] - images[other]) @ text > 0) + float((images[other] - images[one]) @ reverse > 0)) / 2
            for one in drawn
            for other in drawn
            if values[one] > values[other]
        ]
        accuracies.append(sum(right) / len(right))
    assert result.value == pytest.approx(sum(accuracies) / 3, abs=1e-6)
