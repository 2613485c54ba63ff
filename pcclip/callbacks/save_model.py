"""Save the trained model as a folder that open_clip loads."""

from pathlib import Path
from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer

from pcclip.atomic import remove_leftovers
from pcclip.model import DifferenceCLIP, save_clip
from pcclip.model.loading import check_replaceable
from pcclip.model.sharding import gathered


class SaveModel(Callback):
    """Save the model at the end of training. `local-dir:FOLDER` loads it, here and in open_clip.

    Args:
        folder: Output folder. An existing saved model is replaced, which `pcclip fit` allows only with
            `--overwrite true`.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check before training that the folder may be replaced.

        Raises:
            FileExistsError: The folder contains something else than a saved model.
        """
        if stage == "fit" and self.folder.exists():
            check_replaceable(self.folder)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save on the first process, except after `fast_dev_run`."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # declared nowhere in Trainer
            return
        model = cast(DifferenceCLIP, pl_module.model)
        with gathered(model):
            if trainer.is_global_zero:
                remove_leftovers(self.folder)
                save_clip(model, self.folder)
