"""The LightningDataModule: shard folders to loaders of pair batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from pcclip.batch import PairBatch
from pcclip.data.format import DatasetInfo
from pcclip.data.stream import Draw, PairStream


class EpochLoader(DataLoader[PairBatch]):
    """A DataLoader that tells its stream the epoch each time it is iterated.

    Lightning passes the epoch to samplers only, and an iterable dataset has none. It also asks for an iterator before
    `on_train_epoch_start`, so a callback would come too late, and in a resumed run before its own count of epochs is
    restored. So the epoch is looked up when the first batch is asked for.
    """

    def __init__(self, stream: PairStream, epoch: Callable[[], int], **settings: Any) -> None:
        super().__init__(stream, batch_size=None, **settings)
        self._stream = stream
        self._epoch = epoch

    def __iter__(self) -> Iterator[PairBatch]:  # type: ignore[override]
        self._stream.epoch = self._epoch()
        yield from super().__iter__()


class PairDataModule(LightningDataModule):
    """Streams image pairs with their difference texts from group shards.

    Tokenizer and image transform are the model's own. Pairs are drawn if the model has a difference loss, captions if it
    has a caption loss.

    Args:
        train: Shard folders to train on; `fit` needs them.
        val: Shard folders of held-out groups, for the losses on them; none to leave that out. Without any, `test` runs the
            evaluation callbacks alone.
        groups_per_batch: Groups in a batch on each process; a group has up to G images, 16 by default.
        pairs_per_group: Ordered pairs drawn from each group each time it is met.
        captions_per_group: Captioned images drawn from each group; all G by default.
        both_directions: Whether each pair comes with its reverse. The two are each other's hardest negatives: that a text fits
            the difference and not its opposite is then learned in every batch. `pairs_per_group` must be even.
        role_swap: Probability that a pair is given as its reverse, with "first" and "second" exchanged in its text. `twins`
            gives each drawn pair both ways in the same batch, so that the two texts, alike but for these words, are each
            other's negatives; half as many pairs are then drawn. Groups whose texts have neither
            word are drawn from as usual.
        shuffle_buffer: Groups in each worker's shuffle buffer, undecoded.
        num_workers: Worker processes that read, decode and tokenise; 0 does it in the training process.
        seed: Seed of everything drawn. The CLI takes it from `seed_everything`.
    """

    def __init__(
        self,
        train: list[str] | None = None,
        val: list[str] | None = None,
        groups_per_batch: int = 8,
        pairs_per_group: int = 32,
        captions_per_group: int | None = None,
        both_directions: bool = False,
        role_swap: float | Literal["twins"] = 0.0,
        shuffle_buffer: int = 128,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if train is not None and not train:
            raise ValueError("data.train is empty; name at least one shard folder")
        if role_swap != "twins" and not 0 <= role_swap <= 1:
            raise ValueError(f"data.role_swap={role_swap}: a probability, from 0 to 1, or twins")
        together = (2 if both_directions else 1) * (2 if role_swap == "twins" else 1)
        if pairs_per_group % together:
            raise ValueError(
                f"data.pairs_per_group={pairs_per_group}: must be a multiple of {together}, since data.both_directions and "
                "data.role_swap=twins draw pairs together with their reverses and exchanged forms"
            )
        for name, value, least in (
            ("groups_per_batch", groups_per_batch, 1),
            ("pairs_per_group", pairs_per_group, 1),
            ("captions_per_group", captions_per_group, 1),
            ("shuffle_buffer", shuffle_buffer, 1),
            ("num_workers", num_workers, 0),
        ):
            if value is not None and value < least:
                raise ValueError(f"data.{name}={value}: must be at least {least}")
        self._train = train or []
        self._val = val or []
        self._groups_per_batch = groups_per_batch
        self._pairs_per_group = pairs_per_group
        self._captions_per_group = captions_per_group
        self._both_directions = both_directions
        self._role_swap: float | Literal["twins"] = role_swap
        self._buffer = shuffle_buffer
        self._num_workers = num_workers
        self._seed = seed

    def setup(self, stage: str) -> None:
        """Check the shard folders against the model, before anything is computed."""
        module = self._module()
        if stage == "fit" and module.role_weight and self._role_swap != "twins":
            raise ValueError(
                f"model.role_weight={module.role_weight} needs a text and its exchanged form in the same batch; set "
                "data.role_swap=twins"
            )
        if stage == "fit" and not self._train:
            raise ValueError("data.train is missing; name at least one shard folder to train on")
        if stage in ("validate", "predict") and not self._val:
            wanted = getattr(stage, "value", stage)  # Lightning passes an enum
            raise ValueError(f"data.val is empty, so there is nothing to {wanted} on; name a folder of held-out groups")
        for folder in [*(self._train if stage == "fit" else []), *self._val]:
            info = DatasetInfo.read(folder)
            if module.difference_weight and not info.pairs:
                raise ValueError(
                    f"{folder}: holds no pairs, but model.difference_weight is {module.difference_weight}; "
                    "leave the folder out, or train on captions alone with model.difference_weight=0"
                )
            info.check_tower(Path(folder), module.model)

    def _module(self) -> Any:
        assert self.trainer is not None
        return self.trainer.lightning_module

    def train_dataloader(self) -> EpochLoader:
        """Shuffled batches, other ones each epoch."""
        return self._loader(self._train, shuffle=True)

    def val_dataloader(self) -> EpochLoader | list[Any]:
        """Batches of held-out pairs, the same in every epoch."""
        return self._loader(self._val, shuffle=False) if self._val else []

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """As `val_dataloader`; one empty batch if there are none, since Lightning runs no test without any."""
        return self.val_dataloader() if self._val else DataLoader([None], batch_size=None)  # type: ignore[arg-type]  # a list will do

    def predict_dataloader(self) -> EpochLoader | list[Any]:
        """As `val_dataloader`."""
        return self.val_dataloader()

    def _loader(self, folders: list[str], shuffle: bool) -> EpochLoader:
        assert self.trainer is not None
        module, trainer = self._module(), self.trainer
        infos = [DatasetInfo.read(folder) for folder in folders]
        groups_per_batch = self._groups_per_batch
        if not shuffle:  # held-out sets may be smaller than one training batch
            groups_per_batch = max(1, min(groups_per_batch, sum(i.groups for i in infos) // trainer.world_size))
        captions = self._captions_per_group or max(info.group_size for info in infos)
        draw = Draw(
            groups_per_batch=groups_per_batch,
            pairs_per_group=self._pairs_per_group if module.difference_weight else 0,
            captions_per_group=captions if module.caption_weight else 0,
            both_directions=self._both_directions and shuffle,
            role_swap=self._role_swap if shuffle and self._role_swap != "twins" else 0.0,
            role_twins=shuffle and self._role_swap == "twins",
            shuffle=shuffle,
            buffer=self._buffer,
            seed=self._seed,
        )
        stream = PairStream(
            folders,
            module.model.image_transform,
            module.model.tokenizer,
            draw,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        return EpochLoader(
            stream,
            epoch=lambda: trainer.current_epoch,
            num_workers=self._num_workers if shuffle else min(1, self._num_workers),
            pin_memory=torch.cuda.is_available(),
        )
