"""Linear probe: what it learns, regularisation search, few-shot draws, bad input."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.linear_probe import _rank_in_class, best_regularisation, check_training_labels, linear_probe
from tests.helpers.metrics import by_name

CLASSES = ["ant", "bee", "cat"]


def blobs(count: int, seed: int, noise: float = 0.4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = normalize(torch.eye(3, 12) + 1, dim=-1)  # classes differ much less than images are long
    return normalize(centres[labels] + noise / 12**0.5 * torch.randn(count, 12, generator=generator), dim=-1), labels


def test_full_and_few_shot() -> None:
    results = by_name(
        linear_probe(*blobs(120, 0), *blobs(90, 1), CLASSES, shots=[1, 8], draws=3, bootstrap=Bootstrap(200))
    )
    assert list(results) == [
        "top1_full", "mean_per_class_full",
        "top1_shots_1", "top1_shots_lowest_1", "top1_shots_highest_1",
        "top1_shots_8", "top1_shots_lowest_8", "top1_shots_highest_8",
    ]  # fmt: skip
    assert {row.n for row in results.values()} == {90}
    assert results["top1_full"].value > results["top1_shots_8"].value > results["top1_shots_1"].value > 1 / 3
    assert (
        results["top1_shots_lowest_1"].value <= results["top1_shots_1"].value <= results["top1_shots_highest_1"].value
    )
    assert results["mean_per_class_full"].value == pytest.approx(results["top1_full"].value)  # as many of each
    for row in results.values():
        assert row.low < row.value < row.high


def test_accuracy_is_that_of_scikit_learn() -> None:
    train, test = blobs(60, 0, noise=0.1), blobs(30, 1, noise=0.1)
    probe = LogisticRegression(C=100.0, max_iter=1000).fit(train[0].numpy(), train[1].numpy())
    (top1, _) = linear_probe(*train, *test, CLASSES, bootstrap=Bootstrap(0))
    assert top1.value == pytest.approx(probe.score(test[0].numpy(), test[1].numpy()))


def test_wrong_labels_teach_wrong_things() -> None:
    x, y = blobs(60, 0, noise=0.1)
    (top1, _) = linear_probe(x, (y + 1) % 3, *blobs(30, 1, noise=0.1), CLASSES, bootstrap=Bootstrap(0))
    assert top1.value == 0


def test_regularisation_is_searched() -> None:
    x, y = blobs(300, 2)
    x, y = x.double().numpy(), y.numpy()
    found = best_regularisation(x[:30], y[:30], x[30:], y[30:])
    assert 1e-6 <= found <= 1e6

    def score(c: float) -> float:
        return float(LogisticRegression(C=c, max_iter=1000).fit(x[:30], y[:30]).score(x[30:], y[30:]))

    assert score(found) >= max(score(c) for c in 10.0 ** np.arange(-6, 7, 2))


def test_few_shot_regularisation_is_searched_too() -> None:
    def nuisance(count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Classes differ in what varies least, so that a strongly regularised probe sees mostly noise."""
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % 3
        signal = 0.1 * torch.eye(3)[labels] + 0.01 * torch.randn(count, 3, generator=generator)
        return torch.cat([signal, 0.5 * torch.randn(count, 4, generator=generator)], 1), labels

    top1, *_ = linear_probe(*nuisance(90, 0), *nuisance(90, 1), CLASSES, shots=[8], full=False, bootstrap=Bootstrap(0))
    assert top1.value > 0.9


def test_rank_in_class() -> None:
    assert _rank_in_class(np.array([2, 0, 2, 2, 1, 0])).tolist() == [0, 0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("classes", "shots", "named"),
    [
        ([*CLASSES, "dog"], [], r"1 classes .* 2 .* dog \(0\)"),
        (CLASSES, [8], r"3 classes .* 12 .* ant \(10\)"),
        (CLASSES, [0], "shots"),
        (CLASSES, [2, 2], "shots"),
    ],
)
def test_too_few_training_images(classes: list[str], shots: list[int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check_training_labels(blobs(30, 0)[1], classes, shots, full=True)
