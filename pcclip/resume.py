"""Finding the checkpoint from which a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from pcclip.run_folder import first_logger, log_folder


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest `last.ckpt` of the run in a folder, or of the runs in the folders below it."""
    found = [*folder.glob("checkpoints/last*.ckpt"), *folder.glob("*/checkpoints/last*.ckpt")]
    return max(found, key=lambda path: path.stat().st_mtime) if found else None


def resume(settings: Any) -> None:
    """Change the settings of `fit` so that it goes on from the last checkpoint, in the run folder that it was writing to.

    Without a checkpoint they stay, so that a job which is started again and again needs no other command at first.

    Raises:
        ValueError: The settings name a checkpoint of their own, or a logger whose folders cannot be known beforehand.
    """
    if settings.ckpt_path is not None:
        raise ValueError(f"--resume and --ckpt_path={settings.ckpt_path} name two checkpoints; give one of them")
    folder = log_folder(settings.trainer)
    checkpoint = last_checkpoint(folder)
    if checkpoint is None:
        rank_zero_info(f"--resume: there is no checkpoint in {folder} yet, so training starts from the beginning")
        return
    settings.ckpt_path = str(checkpoint)
    logger = first_logger(settings.trainer)
    if not isinstance(logger, bool):  # the default logger has no settings: it begins another folder
        version = checkpoint.parents[1].name
        number = version.removeprefix("version_")
        logger.init_args.version = int(number) if number.isdecimal() and number != version else version
