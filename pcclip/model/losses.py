"""The losses that pull differences of images towards texts that describe them.

They are open_clip's, with duplicates masked, and the mean squared error. All are exact under DDP: gradients averaged over
ranks equal those of one process with the joint batch. Each rank must hold equally many pairs; those that do not count
(`Counted`) are masked.
"""

from __future__ import annotations

import functools
import random
from typing import Literal, NamedTuple

import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor, distributed, nn
from torch.distributed.nn import all_gather  # open_clip gathers by it too
from torch.nn import functional as F

LossName = Literal["contrastive", "sigmoid", "mse"]
MIN_DIFFERENCE = (
    1e-4  # norm of the difference of two unit embeddings; below it is rounding, above it two pictures differ
)


class Counted(NamedTuple):
    """Which pairs count: the others have no loss and are no negatives, as if they were not in the batch.

    Attributes:
        own: (P,) bool, this rank's.
        everyone: (N,) bool, all ranks' pairs in the order of the ranks.
    """

    own: Tensor
    everyone: Tensor

    @classmethod
    def distinct(cls, differences: Tensor, world_size: int) -> Counted:
        """Count the pairs whose two images differ, given the differences (P, D) of their unit embeddings.

        The direction of other differences is noise, and its gradient grows with the inverse of their norm. NaN counts, so
        that the losses of a diverged model are NaN.
        """
        own = ~(differences.detach().norm(dim=-1) < MIN_DIFFERENCE)
        return cls(own, gathered_rows(own, world_size))

    def scaled(self, mean: Tensor) -> Tensor:
        """Turn a sum over this rank's counted pairs, divided by P, into its part of the mean over all that count.

        The parts of all ranks average to that mean. The factor is exactly 1 where all pairs count.
        """
        return mean * (len(self.everyone) / self.everyone.sum().clamp(min=1).to(mean.dtype))

    def mean(self, values: Tensor) -> Tensor:
        """Return this rank's part of the mean of values (P,) over the pairs that count, ()."""
        return self.scaled(values.where(self.own, 0).mean())


class ContrastiveLoss(ClipLoss):  # type: ignore[misc]  # open_clip is not typed
    """open_clip's `ClipLoss` over all ranks, in which duplicates of a pair are not its negatives.

    Without duplicates it is open_clip's, to the last bit.
    """

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        # local_loss with gather_with_grad is the only combination whose averaged gradients are exact.
        # Labels are not cached: those that validation makes in inference mode could not be trained with.
        super().__init__(local_loss=True, gather_with_grad=True, rank=rank, world_size=world_size)

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None,
        keys: Tensor | None = None,
        counted: Counted | None = None,
    ) -> Tensor:
        """The mean of both directions' cross-entropy, (); see `build_loss`."""
        per_image, per_text = self.get_logits(image, text, logit_scale, logit_bias)
        own = self.get_ground_truth(image.device, len(image))
        if (masked := no_negatives(keys, counted, own, self.world_size)) is not None:
            per_image, per_text = (logits.masked_fill(masked, float("-inf")) for logits in (per_image, per_text))
        if counted is not None:
            own = own.where(counted.own | ~counted.own.any(), -100)  # ignored; the mean over no pair would be NaN
        mean = (F.cross_entropy(per_image, own) + F.cross_entropy(per_text, own)) / 2
        return mean if counted is None else counted.scaled(mean * counted.own.to(mean.dtype).mean())


class SigmoidLoss(SigLipLoss):  # type: ignore[misc]  # open_clip is not typed
    """open_clip's `SigLipLoss` over all ranks, in which duplicates of a pair are not its negatives.

    Texts are gathered and not passed round a ring as open_clip does, since their keys must come with them.
    """

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None,
        keys: Tensor | None = None,
        counted: Counted | None = None,
    ) -> Tensor:
        """Log-loss of all cells, summed over texts and averaged over images, (); see `build_loss`."""
        texts = torch.cat(all_gather(text)) if self.world_size > 1 else text  # type: ignore[no-untyped-call]
        logits = self.get_logits(image, texts, logit_scale, logit_bias)
        own = torch.arange(len(image), device=image.device) + self.rank * len(image)
        signs = torch.full_like(logits, -1).scatter_(1, own[:, None], 1)
        losses = -F.logsigmoid(signs * logits)
        if (masked := no_negatives(keys, counted, own, self.world_size)) is not None:
            losses = losses.masked_fill(masked, 0)
        if counted is None:
            return losses.sum() / len(image)
        return counted.scaled(losses.masked_fill(~counted.own[:, None], 0).sum() / len(image))


class MSELoss(nn.Module):
    """Squared distance of unit vectors, summed over D and averaged over P: the paper's "similar" variant.

    Takes and ignores scale, bias and keys, which have no meaning for it. Source: arXiv 2409.09721.
    """

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        super().__init__()
        self.rank, self.world_size = rank, world_size

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None,
        keys: Tensor | None = None,
        counted: Counted | None = None,
    ) -> Tensor:
        """The mean squared distance, ()."""
        distances = (image - text).square().sum(-1)
        return distances.mean() if counted is None else counted.mean(distances)


def sign_loss(differences: Tensor, texts: Tensor, logit_scale: Tensor, counted: Counted | None = None) -> Tensor:
    """Cross entropy of which of two reversed differences a text is true of, the paper's difference classification as a loss.

    A reversed pair has the opposite difference (with a head that is odd; about, with another), so that the choice between
    the two is one of the cosine's sign. No other pair has a part in it, on this rank or another.

    Args:
        differences: Unit, (P, D).
        texts: Unit, (P, D).
        logit_scale: 1 / temperature.
        counted: Which pairs count; all by default.

    Examples:
        >>> import torch
        >>> differences, scale = torch.eye(4), torch.tensor(10.0)
        >>> round(sign_loss(differences, torch.zeros(4, 4), scale).item(), 3)  # silent: log 2
        0.693
    """
    losses = F.softplus(-2 * logit_scale * (differences * texts).sum(-1))
    return losses.mean() if counted is None else counted.mean(losses)


def build_loss(name: LossName, rank: int = 0, world_size: int = 1) -> ContrastiveLoss | SigmoidLoss | MSELoss:
    """A loss by name, called with unit image-side and text-side embeddings (P, D) each, a logit scale and a logit bias.

    As a fifth argument it takes keys (P, K) int64: two pairs that have a key in common, in the same column, are duplicates.
    As a sixth, which pairs are `Counted`; all by default.

    Examples:
        >>> import torch
        >>> differences = torch.eye(4)
        >>> round(build_loss("mse")(differences, -differences, torch.tensor(10.0), None).item(), 3)
        4.0

    Raises:
        ValueError: Unknown name.
    """
    if name == "contrastive":
        return ContrastiveLoss(rank, world_size)
    if name == "sigmoid":
        return SigmoidLoss(rank=rank, world_size=world_size)
    if name == "mse":
        return MSELoss(rank, world_size)
    raise ValueError(f"unknown difference loss {name!r}; use contrastive, sigmoid or mse")


def no_negatives(keys: Tensor | None, counted: Counted | None, own: Tensor, world_size: int) -> Tensor | None:
    """Which of all ranks' N pairs are not to be negatives of this rank's P: duplicates, and those that do not count.

    A pair is never masked for itself. Returns (P, N) bool, or None if there is nothing to mask by.
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
    parts = [torch.empty_like(rows) for _ in range(world_size)]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def duplicates(keys: Tensor, own: Tensor, world_size: int) -> Tensor:
    """Which of all ranks' N pairs are duplicates of this rank's P, itself left out: (P, N) bool.

    Args:
        keys: (P, K) keys of this rank's pairs.
        own: (P,) each pair's place among all ranks' pairs.
        world_size: Number of ranks.
    """
    everyone = gathered_rows(keys, world_size)
    same = torch.zeros(len(keys), len(everyone), dtype=torch.bool, device=keys.device)
    for column in range(keys.shape[1]):  # one at a time: (P, N, K) would be large
        same |= keys[:, column, None] == everyone[:, column]
    return same.scatter(1, own[:, None], False)


def row_keys(rows: Tensor) -> Tensor:
    """One key for each row of (N, L) int64: equal rows have equal keys, others practically never, (N,) int64.

    Zeros at the end do not count, so that the same text has the same key however far it is padded.
    """
    return (rows * _coefficients(rows.shape[1], rows.device)).sum(1)


@functools.lru_cache
def _coefficients(length: int, device: torch.device) -> Tensor:
    # The same on every rank, and the first ones the same for every length. Products and sums wrap around, as they may.
    numbers = random.Random(0)
    return torch.tensor([numbers.getrandbits(64) - 2**63 | 1 for _ in range(length)], device=device)
