"""Linear probe: logistic regression on frozen embeddings, full and few-shot, as CLIP's (arXiv 2103.00020, appendix A.3)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from pcclip.metrics.bootstrap import Bootstrap, measured
from pcclip.metrics.protocol import Metric, check_finite
from pcclip.metrics.zero_shot import class_accuracies

# Increase it when `linear_probe` returns other metrics for the same embeddings and settings, so that metrics stored by an older
# version are not used.
VERSION = 2
HELD_OUT = 0.2  # of each class's training images, to choose the regularisation by
VALIDATION_SHOTS = 4  # largest number of further images a class that choose the regularisation of a few-shot probe

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def linear_probe(
    train_images: Tensor,
    train_labels: Tensor,
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    *,
    shots: Sequence[int] = (),
    draws: int = 3,
    full: bool = True,
    bootstrap: Bootstrap | None = None,
) -> list[Metric]:
    """Measure the accuracy on test images of probes fitted on training images.

    Args:
        train_images: Unit embeddings, (N, D).
        train_labels: Index into `classes` of each, (N,).
        images: Unit embeddings of test images, (M, D).
        labels: Their classes, (M,).
        classes: Names of the classes.
        shots: Also fit on this number of training images of each class, each number `draws` times.
        draws: Number of random draws of few-shot images.
        full: Fit on all training images.
        bootstrap: Resampling of test images, and seed of the validation splits and the draws.

    Returns:
        `top1_full` and `mean_per_class_full`; for each number of shots (`factor`) `top1_shots`, the mean over draws, and
        `top1_shots_lowest` and `top1_shots_highest` of them. `n` is the number of test images.

    Raises:
        ValueError: An embedding is not finite. See `check_training_labels` for the number of images.
    """
    check_finite(train_images, "training image embeddings")
    check_finite(images, "test image embeddings")
    x, y = train_images.double().cpu().numpy(), train_labels.cpu().numpy()
    test_x, test_y = images.double().cpu().numpy(), labels.cpu().numpy()
    bootstrap = bootstrap or Bootstrap()
    resamples = bootstrap.draw(len(images))

    def right(probe: LogisticRegression) -> Tensor:
        return torch.from_numpy(probe.predict(test_x) == test_y).float()

    metrics = []
    if full:
        order = np.random.default_rng(bootstrap.seed).permutation(len(y))
        held_out = np.zeros(len(y), dtype=bool)
        held_out[order] = _rank_in_class(y[order]) < np.maximum(1, HELD_OUT * np.bincount(y)[y[order]])
        c = best_regularisation(x[~held_out], y[~held_out], x[held_out], y[held_out])
        correct = right(_fit(x, y, c))
        per_class, resampled, _ = class_accuracies(correct, labels.cpu(), len(classes), resamples.weights)
        metrics.append(resamples.mean("top1_full", correct))
        mean = float(per_class.mean())
        metrics.append(measured("mean_per_class_full", mean, len(images), resampled.nanmean(1)))
    for k in shots:
        verdicts = []
        for draw in range(draws):
            order = np.random.default_rng((bootstrap.seed, k, draw)).permutation(len(y))
            rank = _rank_in_class(y[order])
            few, further = order[rank < k], order[(rank >= k) & (rank < k + min(k, VALIDATION_SHOTS))]
            c = best_regularisation(x[few], y[few], x[further], y[further])
            verdicts.append(right(_fit(x[few], y[few], c)))
        each = torch.stack(verdicts)
        lowest, highest = each[each.mean(1).argmin()], each[each.mean(1).argmax()]
        for name, correct in (("", each.mean(0)), ("_lowest", lowest), ("_highest", highest)):
            metrics.append(resamples.mean(f"top1_shots{name}", correct, factor=k))
    return metrics


def check_training_labels(labels: Tensor, classes: Sequence[str], shots: Sequence[int], full: bool) -> None:
    """Raise if classes have too few training images. It needs no embeddings, so call it before images are embedded.

    Raises:
        ValueError: A number of shots below one or given twice, or a class with too few images: two for a full probe, k and
            min(k, 4) further ones for k shots.
    """
    if any(k < 1 for k in shots) or len(set(shots)) < len(shots):
        raise ValueError(f"shots {list(shots)}: give numbers of images a class, each once")
    needed = max([2 if full else 1, *(k + min(k, VALIDATION_SHOTS) for k in shots)])
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    if few := [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < needed]:
        raise ValueError(
            f"{len(few)} classes have fewer than {needed} training images, which its probes and their "
            f"validation need: {', '.join(few[:5])}; add images, or ask for fewer shots"
        )


def best_regularisation(x: Array, y: Labels, validation_x: Array, validation_y: Labels) -> float:
    """Return the C with the best validation accuracy: powers of 100 first, then finer, to an eighth of a decade.

    The smallest of equally good neighbours is chosen, which regularises most.
    """
    accuracy: dict[float, float] = {}

    def score(exponent: float) -> float:
        if exponent not in accuracy:
            accuracy[exponent] = float(_fit(x, y, 10**exponent).score(validation_x, validation_y))
        return accuracy[exponent]

    best = max(np.arange(-6.0, 7.0, 2.0).tolist(), key=score)
    for step in (1.0, 0.5, 0.25, 0.125):
        best = max((max(best - step, -6.0), best, min(best + step, 6.0)), key=score)
    return float(10**best)


def _fit(x: Array, y: Labels, c: float) -> LogisticRegression:
    return LogisticRegression(C=c, max_iter=1000).fit(x, y)


def _rank_in_class(labels: Labels) -> Labels:
    """Return for each label the number of earlier equal labels."""
    return pd.Series(labels).groupby(labels).cumcount().to_numpy()
