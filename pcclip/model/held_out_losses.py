"""Losses on held-out batches in validation and test. They do not depend on the number of processes."""

from abc import abstractmethod
from contextlib import ExitStack

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torchmetrics import Metric

from pcclip.batch import PairBatch
from pcclip.model.sharding import gathered

PAIR_LOSSES = ("difference_loss", "sign_accuracy", "sign_loss")
PARTS = (*PAIR_LOSSES, "caption_loss", "keep_loss")


class Sums(Metric):
    """Sum and number of items of each of `PARTS`, (parts, 2) in float64, over batches and processes."""

    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(len(PARTS), 2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, found: dict[str, tuple[float, int]]) -> None:
        """Add the mean of each part over a batch and the number of its items."""
        rows = [(mean * count, count) for mean, count in (found.get(name, (0.0, 0)) for name in PARTS)]
        self.sums += torch.tensor(rows, dtype=torch.float64, device=self.sums.device)

    def compute(self) -> dict[str, float]:
        """Return the mean of each loss that was computed for at least one pair or caption."""
        return {name: total / count for name, (total, count) in zip(PARTS, self.sums.tolist(), strict=True) if count}


class HeldOutLosses(LightningModule):
    """Log the mean losses over all held-out pairs and captions, as `val/<name>` and `test/<name>`.

    Negatives come from the same batch in the same process. Sums and counts are in float64, over all batches and
    processes. `loss` is the weighted sum of the means.
    """

    difference_weight: float
    caption_weight: float
    sign_weight: float
    keep_weight: float

    @abstractmethod
    def losses(self, batch: PairBatch, alone: bool = False) -> dict[str, Tensor]:
        """Return the losses of a batch by name."""

    def on_validation_epoch_start(self) -> None:
        """Reset the sums. Gather sharded weights, since processes may have different numbers of batches."""
        self._sums = Sums()
        self._sums.update({})  # a process may have no batches
        if self.trainer.world_size > 1:  # devices without float64 (MPS) have one process
            self._sums.to(self.device)
        self._whole = ExitStack()
        self._whole.enter_context(gathered(self))

    on_test_epoch_start = on_predict_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: PairBatch, batch_index: int) -> None:
        if not len(batch.image_ids):
            return
        found = self.losses(batch, alone=True)
        pairs = len(batch.first) - int(found.get("identical_pairs", 0))
        counts = {name: pairs if name in PAIR_LOSSES else len(batch.captioned) for name in PARTS if name in found}
        self._sums.update({name: (float(found[name]), count) for name, count in counts.items()})

    def test_step(self, batch: PairBatch | None, batch_index: int) -> None:
        """Like `validation_step`, if there are held-out pairs. The evaluation callbacks do the rest of `pcclip test`."""
        if batch is not None:
            self.validation_step(batch, batch_index)

    def on_validation_epoch_end(self) -> None:
        self._log_means("val")

    def on_test_epoch_end(self) -> None:
        self._log_means("test")

    def on_predict_epoch_end(self) -> None:
        """Shard the weights again."""
        self._whole.close()

    def _log_means(self, stage: str) -> None:
        self._whole.close()
        means = self._sums.compute()
        weights = {
            "difference_loss": self.difference_weight,
            "sign_loss": self.sign_weight,
            "caption_loss": self.caption_weight,
            "keep_loss": self.keep_weight,
        }
        parts = {name: weight for name, weight in weights.items() if weight}
        if missing := parts.keys() - means.keys():
            if stage == "val" or means:  # else a test without held-out data
                rank_zero_warn(
                    f"{stage}/loss is not logged, since the held-out groups that were read have nothing for "
                    f"{', '.join(sorted(missing))}; give data.val groups with pairs (and captions)"
                )
        else:
            means["loss"] = sum(weight * means[name] for name, weight in parts.items())
        self.log_dict({f"{stage}/{name}": value for name, value in means.items()}, sync_dist=True)
