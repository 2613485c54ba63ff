"""The supervised ceiling of attribute ranking: a linear ranker fitted on the same embeddings, with labels."""

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from torch import Tensor

from pcclip.metrics.judged import JudgedAttribute
from pcclip.metrics.protocol import Metric
from pcclip.metrics.rank_correlation import weighted_ranks, weighted_spearman

FOLDS = 10
MIN_OF_EITHER = 5  # groups of images with each value of a two-valued attribute; with fewer, most folds lack one value
# for unit embeddings: their coordinates vary by much less than one
_PENALTIES = np.logspace(-5, 3, 17)


def has_ceiling(values: Tensor, groups: Tensor) -> bool:
    """Return whether enough groups of images have a value: one for each fold, and five of each if there are two values.

    Args:
        values: Value of each image, (N,); NaN where unknown.
        groups: Group of each image, (N,).
    """
    known = ~values.isnan()
    pairs = torch.unique(torch.stack([values[known], groups[known].to(values.dtype)], 1), dim=0)
    distinct, counts = torch.unique(pairs[:, 0], return_counts=True)
    enough_of_either = len(distinct) > 2 or int(counts.min()) >= MIN_OF_EITHER
    return enough_of_either and len(torch.unique(pairs[:, 1])) >= FOLDS


def folds(groups: Tensor, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return `FOLDS` random folds that keep groups (n,) whole: indices of the images to fit on, and of those to predict."""
    distinct, group = np.unique(groups.cpu().numpy(), return_inverse=True)
    parts = KFold(FOLDS, shuffle=True, random_state=seed).split(distinct)
    members = [[torch.from_numpy(np.flatnonzero(np.isin(group, part))) for part in fold] for fold in parts]
    return [(fitted, predicted) for fitted, predicted in members]


def ridge_scores(images: Tensor, values: Tensor, groups: Tensor, seed: int) -> Tensor:
    """Return out-of-fold predictions (n,) of ridge regression from embeddings (n, D) to the ranks of values (n,).

    Ranks are fitted because only the order is judged. A fit on nine tenths of the groups predicts the images of the others.
    Leave-one-out over the fitted images chooses the penalty.

    Args:
        images: Embeddings, (n, D).
        values: Value of each image, (n,).
        groups: Group of each image, (n,), at least `FOLDS` of them. Images that share the value of
            their class must be one group: otherwise the fit could recognise the class instead of the attribute.
        seed: Seed of the folds.
    """
    ranks = weighted_ranks(torch.ones_like(values)[None], values)[0]
    predicted = cross_val_predict(
        RidgeCV(alphas=_PENALTIES),
        images.double().cpu().numpy(),
        ranks.double().cpu().numpy(),
        cv=[(fitted.numpy(), predicted.numpy()) for fitted, predicted in folds(groups, seed)],
    )
    return torch.from_numpy(predicted).float().to(images.device)


def transferred_scores(images: Tensor, values: Tensor, others: Tensor) -> Tensor:
    """Return predictions (m,) for other images (m, D) of ridge regression, fitted as in `ridge_scores` on all images.

    Args:
        images: Embeddings, (n, D).
        values: Value of each image, (n,); NaN where unknown.
        others: Embeddings of the other images, (m, D).
    """
    known = ~values.isnan()
    ranks = weighted_ranks(torch.ones_like(values[known])[None], values[known])[0]
    fitted = RidgeCV(alphas=_PENALTIES).fit(images[known].double().cpu().numpy(), ranks.double().cpu().numpy())
    return torch.from_numpy(fitted.predict(others.double().cpu().numpy())).float().to(others.device)


def ceiling_results(judged: JudgedAttribute, scores: Tensor, spearman: float, resampled: Tensor) -> list[Metric]:
    """Return `ceiling_forced_choice`, `ceiling_spearman` and `share_of_ceiling`.

    Args:
        judged: The attribute.
        scores: Score of each image by the ceiling, (n,).
        spearman: Spearman's correlation of the text axis.
        resampled: The same in each resample, (R,).

    Returns:
        The share is `spearman` divided by the ceiling. It is undefined (NaN) if the ceiling is not positive.
    """
    first, second = scores[judged.paired][judged.pairs]
    once = torch.ones_like(scores)[None]
    ceiling = weighted_spearman(once, scores, judged.values)
    ceiling_resampled = weighted_spearman(judged.weights, scores, judged.values)
    share, share_resampled = _share(spearman, ceiling), _share(resampled, ceiling_resampled)
    return [
        judged.pair_metric("ceiling_forced_choice", (1 + (first - second).sign()) / 2),
        judged.metric("ceiling_spearman", float(ceiling), len(scores), ceiling_resampled),
        judged.metric("share_of_ceiling", float(share), len(scores), share_resampled),
    ]


def _share(part: float | Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole, torch.nan)
