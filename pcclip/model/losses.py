"""Losses between image-side and text-side unit embeddings: contrastive, sigmoid, mean squared error, and the sign loss.

The first two are open_clip's, with duplicates masked. All are exact under DDP: gradients averaged over ranks equal those of
one process with the joint batch. All ranks must have the same number of pairs. `Counted` excludes pairs.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributed.nn import all_gather  # open_clip gathers by it too
from torch.nn import functional as F

from pcclip.processes import gather

LossName = Literal["contrastive", "sigmoid", "mse"]
MIN_DIFFERENCE = 1e-4  # norm of the difference of two unit embeddings; smaller ones are rounding errors


class Counted(NamedTuple):
    """Which pairs count. Other pairs have no loss and are no negatives, as if they were not in the batch.

    Attributes:
        own: (P,) bool, this rank's.
        everyone: (N,) bool, all ranks' pairs in the order of the ranks.
    """

    own: Tensor
    everyone: Tensor

    @classmethod
    def distinct(cls, differences: Tensor, world_size: int) -> Counted:
        """Count the pairs with two different images, given the differences (P, D) of their unit embeddings.

        A difference of nearly zero has a random direction, and its gradient grows with the inverse of its norm. NaN counts,
        so that the losses of a diverged model are NaN.
        """
        own = ~(differences.detach().norm(dim=-1) < MIN_DIFFERENCE)
        return cls(own, gathered_rows(own, world_size))

    def scaled(self, mean: Tensor) -> Tensor:
        """Scale a sum over this rank's counted pairs, divided by P, to its part of the mean over all counted pairs.

        The parts of all ranks average to this mean. The factor is exactly 1 if all pairs count.
        """
        return mean * (len(self.everyone) / self.everyone.sum().clamp(min=1).to(mean.dtype))

    def mean(self, values: Tensor) -> Tensor:
        """Return this rank's part of the mean of values (P,) over the counted pairs, ()."""
        return self.scaled(values.where(self.own, 0).mean())


class Ranks(NamedTuple):
    """Rank of this process, and number of processes with a joint batch."""

    rank: int = 0
    world_size: int = 1

    def own(self, pairs: int, device: torch.device) -> Tensor:
        """Return the indices of this rank's pairs among all ranks' pairs, (P,)."""
        return torch.arange(pairs, device=device) + self.rank * pairs

    def gathered(self, embeddings: Tensor) -> Tensor:
        """Return all ranks' embeddings (N, D), with gradients, in the order of the ranks."""
        if self.world_size == 1:
            return embeddings
        found: Tensor = torch.cat(all_gather(embeddings))  # type: ignore[no-untyped-call]
        return found


ALONE = Ranks()


def contrastive_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor | None = None,
    keys: Tensor | None = None,
    counted: Counted | None = None,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Return this rank's part of the cross-entropy, averaged over both directions, ().

    The parts of all ranks average to the loss of the joint batch. Without duplicates it equals open_clip's `ClipLoss` exactly.

    Args:
        image: Unit image-side embeddings of this rank, (P, D).
        text: Unit text-side embeddings, (P, D).
        logit_scale: 1 / temperature.
        logit_bias: Added to all logits.
        keys: (P, K) int64. Two pairs with equal keys in a column are duplicates, which are not each other's negatives.
        counted: Which pairs count; all by default.
        ranks: This rank.
    """
    per_image = logit_scale * image @ ranks.gathered(text).T
    per_text = logit_scale * text @ ranks.gathered(image).T
    if logit_bias is not None:
        per_image, per_text = per_image + logit_bias, per_text + logit_bias
    own = ranks.own(len(image), image.device)
    if (masked := no_negatives(keys, counted, own, ranks.world_size)) is not None:
        per_image, per_text = (logits.masked_fill(masked, float("-inf")) for logits in (per_image, per_text))
    if counted is not None:
        own = own.where(counted.own | ~counted.own.any(), -100)  # ignored; the mean over no pair would be NaN
    mean = (F.cross_entropy(per_image, own) + F.cross_entropy(per_text, own)) / 2
    return mean if counted is None else counted.scaled(mean * counted.own.to(mean.dtype).mean())


def sigmoid_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor | None = None,
    keys: Tensor | None = None,
    counted: Counted | None = None,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Return the log-loss of all logits, summed over texts and averaged over images, (). Arguments: `contrastive_loss`.

    Without duplicates it equals open_clip's `SigLipLoss`. Texts are gathered together with their keys, not passed around a
    ring.
    """
    logits = logit_scale * image @ ranks.gathered(text).T
    if logit_bias is not None:
        logits = logits + logit_bias
    own = ranks.own(len(image), image.device)
    signs = torch.full_like(logits, -1).scatter_(1, own[:, None], 1)
    losses = -F.logsigmoid(signs * logits)
    if (masked := no_negatives(keys, counted, own, ranks.world_size)) is not None:
        losses = losses.masked_fill(masked, 0)
    if counted is None:
        return losses.sum() / len(image)
    return counted.scaled(losses.masked_fill(~counted.own[:, None], 0).sum() / len(image))


def mse_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor | None = None,
    keys: Tensor | None = None,
    counted: Counted | None = None,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Return the squared distance, summed over D and averaged over P, (): the paper's "similar" variant (arXiv 2409.09721).

    Scale, bias and keys are ignored.

    Examples:
        >>> import torch
        >>> differences = torch.eye(4)
        >>> round(mse_loss(differences, -differences, torch.tensor(10.0)).item(), 3)
        4.0
    """
    distances = (image - text).square().sum(-1)
    return distances.mean() if counted is None else counted.mean(distances)


LOSSES: dict[LossName, Callable[..., Tensor]] = {
    "contrastive": contrastive_loss,
    "sigmoid": sigmoid_loss,
    "mse": mse_loss,
}


def sign_loss(differences: Tensor, texts: Tensor, logit_scale: Tensor, counted: Counted | None = None) -> Tensor:
    """Return the cross-entropy of choosing between a pair and its reverse, (): the paper's difference classification as a loss.

    A reversed pair has the opposite difference, since heads are odd. So the choice depends on the sign of the cosine. It does
    not depend on other pairs.

    Args:
        differences: Unit, (P, D).
        texts: Unit, (P, D).
        logit_scale: 1 / temperature.
        counted: Which pairs count; all by default.

    Examples:
        >>> import torch
        >>> differences, scale = torch.eye(4), torch.tensor(10.0)
        >>> round(sign_loss(differences, torch.zeros(4, 4), scale).item(), 3)  # no information: log 2
        0.693
    """
    losses = F.softplus(-2 * logit_scale * (differences * texts).sum(-1))
    return losses.mean() if counted is None else counted.mean(losses)


def no_negatives(keys: Tensor | None, counted: Counted | None, own: Tensor, world_size: int) -> Tensor | None:
    """Return which of all ranks' N pairs are no negatives of this rank's P pairs, (P, N) bool; None without keys and counts.

    These are duplicates and pairs that do not count. A pair never masks itself.
    """
    masked = None if keys is None else duplicates(keys, own, world_size)
    if counted is None:
        return masked
    absent = (~counted.everyone).expand(len(own), -1).scatter(1, own[:, None], False)
    return absent if masked is None else masked | absent


def gathered_rows(rows: Tensor, world_size: int) -> Tensor:
    """Concatenate all ranks' rows (P, ...) in the order of the ranks, without gradients."""
    if world_size == 1:
        return rows
    return gather(rows).flatten(0, 1)


def duplicates(keys: Tensor, own: Tensor, world_size: int) -> Tensor:
    """Return which of all ranks' N pairs are duplicates of this rank's P pairs, except of themselves, (P, N) bool.

    Args:
        keys: Keys of this rank's pairs, (P, K).
        own: Index of each pair among all ranks' pairs, (P,).
        world_size: Number of ranks.
    """
    everyone = gathered_rows(keys, world_size)
    same = torch.zeros(len(keys), len(everyone), dtype=torch.bool, device=keys.device)
    for column in range(keys.shape[1]):  # one at a time: (P, N, K) would be large
        same |= keys[:, column, None] == everyone[:, column]
    return same.scatter(1, own[:, None], False)


def row_keys(rows: Tensor) -> Tensor:
    """Return a hash of each row of (N, L) int64, (N,) int64.

    Trailing zeros have no effect, so a text has the same key with any padding.
    """
    return (rows * _coefficients(rows.shape[1], rows.device)).sum(1)


@functools.lru_cache
def _coefficients(length: int, device: torch.device) -> Tensor:
    # The same on all ranks. A longer row has the same first coefficients. Overflow wraps around, which is fine for hashes.
    numbers = random.Random(0)
    return torch.tensor([numbers.getrandbits(64) - 2**63 | 1 for _ in range(length)], device=device)
