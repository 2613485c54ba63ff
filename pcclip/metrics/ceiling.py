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


def enough_of_either(values: Tensor, groups: Tensor) -> bool:
    """Return whether an attribute has more than two values, or two with enough groups of images each."""
    known = ~values.isnan()
    pairs = torch.unique(torch.stack([values[known], groups[known].to(values.dtype)], 1), dim=0)
    distinct, counts = torch.unique(pairs[:, 0], return_counts=True)
    return len(distinct) > 2 or int(counts.min()) >= MIN_OF_EITHER


def ridge_scores(images: Tensor, values: Tensor, groups: Tensor, seed: int) -> Tensor:
    """Return out-of-fold predictions (n,) of ridge regression from embeddings (n, D) to the ranks of values (n,).

    Ranks are fitted because only the order is judged. Each image is predicted by a fit on nine tenths of the groups, without
    its own. Leave-one-out over the images of these chooses the penalty.

    Args:
        images: Embeddings, (n, D).
        values: Their values, (n,).
        groups: Group of each image, (n,). Folds keep groups whole. Images that share the value of their class must be one
            group: otherwise the fit could recognise the class instead of the attribute.
        seed: Seed of the folds.

    Raises:
        ValueError: Fewer groups than folds.
    """
    distinct, group = np.unique(groups.cpu().numpy(), return_inverse=True)
    if len(distinct) < FOLDS:
        kind = "images" if len(distinct) == len(images) else "classes"
        raise ValueError(f"the ceiling is cross-validated in {FOLDS} folds; {len(distinct)} {kind} are too few")
    folds = KFold(FOLDS, shuffle=True, random_state=seed).split(distinct)
    ranks = weighted_ranks(torch.ones_like(values)[None], values)[0]
    predicted = cross_val_predict(
        RidgeCV(alphas=_PENALTIES),
        images.double().cpu().numpy(),
        ranks.double().cpu().numpy(),
        cv=[tuple(np.flatnonzero(np.isin(group, part)) for part in fold) for fold in folds],
    )
    return torch.from_numpy(predicted).float().to(images.device)


def ceiling_results(judged: JudgedAttribute, spearman: float, resampled: Tensor, seed: int) -> list[Metric]:
    """Return `ceiling_forced_choice`, `ceiling_spearman`, and the text axis's share of the latter.

    Args:
        judged: The attribute.
        spearman: The text axis's correlation.
        resampled: The same in each resample, (R,).
        seed: Seed of the folds.

    Returns:
        The share is undefined (NaN) if the ceiling is not positive.

    Raises:
        ValueError: As `ridge_scores`.
    """
    try:
        scores = ridge_scores(judged.images, judged.values, judged.groups, seed)
    except ValueError as error:
        raise ValueError(f"{judged.attribute}: {error}") from error
    paired = scores[judged.paired]
    verdicts = (1 + (paired[:, None] - paired[None, :]).sign()) / 2
    once = torch.ones_like(scores)[None]
    ceiling = weighted_spearman(once, scores, judged.values)
    ceiling_resampled = weighted_spearman(judged.weights, scores, judged.values)
    n, pairs = len(scores), int(judged.more.sum())
    return [
        judged.metric(
            "ceiling_forced_choice",
            float(judged.pair_mean(verdicts, torch.ones_like(paired)[None])),
            pairs,
            judged.pair_mean(verdicts, judged.pair_weights),
        ),
        judged.metric("ceiling_spearman", float(ceiling), n, ceiling_resampled),
        judged.metric("share_of_ceiling", float(_share(spearman, ceiling)), n, _share(resampled, ceiling_resampled)),
    ]


def _share(part: float | Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole, torch.nan)
