"""Finding the checkpoint from which a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info


def last_checkpoint(folder: Path) -> Path | None:
    """The newest `last.ckpt` of the versions of a run that lie in the folder of its logger."""
    found = list(folder.glob("version_*/checkpoints/last*.ckpt"))
    return max(found, key=lambda path: path.stat().st_mtime) if found else None


def resume(config: Any) -> None:
    """Change the settings of `fit` so that it goes on from the last checkpoint, in the log folder that it was writing to.

    Without a checkpoint they stay, so that a job which is started again and again needs no other command at first.

    Raises:
        ValueError: The settings name no TensorBoardLogger with a `save_dir`, or a checkpoint of their own.
    """
    logger = config.trainer.logger
    settings = getattr(logger, "init_args", None)
    if settings is None or not logger.class_path.endswith("TensorBoardLogger"):
        raise ValueError("--resume looks beside the logs, so it needs trainer.logger to be a TensorBoardLogger")
    if config.ckpt_path is not None:
        raise ValueError(f"--resume and --ckpt_path={config.ckpt_path} name two checkpoints; give one of them")
    folder = Path(settings.save_dir) / (settings.name or "")
    checkpoint = last_checkpoint(folder)
    if checkpoint is None:
        rank_zero_info(f"--resume: there is no checkpoint in {folder} yet, so training starts from the beginning")
        return
    config.ckpt_path = str(checkpoint)
    settings.version = int(checkpoint.parents[1].name.removeprefix("version_"))
