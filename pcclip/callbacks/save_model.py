"""Saves the trained model as a folder that open_clip loads."""

from __future__ import annotations

from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer

from pcclip.model import DifferenceModel, save_clip
from pcclip.model.sharding import gathered


class SaveModel(Callback):
    """At the end of training, save the model to `folder`: `local-dir:FOLDER` loads it, here and in open_clip.

    Args:
        folder: Where to. A model that is there is replaced; `pcclip fit` asks for `--overwrite true` first.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save on the first process, except after `fast_dev_run`."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # declared nowhere in Trainer
            return
        model = cast(DifferenceModel, pl_module.model)
        with gathered(model):
            if trainer.is_global_zero:
                save_clip(model, self._folder)
