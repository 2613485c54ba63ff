"""Find and check the checkpoint that a run resumes from."""

import zipfile
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_info

from pcclip.run_folder import FOUND_BY_LIGHTNING, checkpoint_folders, first_logger, log_folder


def last_checkpoint(folder: Path, *others: Path) -> Path | None:
    """Return the newest `last.ckpt` of the run in a folder, or of the runs in the folders below it, or in `others`."""
    found = [*folder.glob("checkpoints/last*.ckpt"), *folder.glob("*/checkpoints/last*.ckpt")]
    found += [file for other in others for file in other.glob("last*.ckpt")]
    return max(found, key=lambda path: path.stat().st_mtime) if found else None


def resume(settings: Any) -> None:
    """Change the settings of `fit` so that it resumes from the last checkpoint, in the same run folder.

    A checkpoint in a `dirpath` does not say which run folder that was: a logger without a `version` begins another.

    Without a checkpoint they stay, so that a job which is started again and again needs no other command at first.

    Raises:
        ValueError: The settings name a checkpoint of their own, or a logger without a `version`.
    """
    if settings.ckpt_path is not None:
        raise ValueError(f"--resume and --ckpt_path={settings.ckpt_path} name two checkpoints; give one of them")
    logger = first_logger(settings.trainer)
    if not isinstance(logger, bool) and "version" not in (logger.get("init_args") or {}):
        raise ValueError(
            f"--resume: {logger.class_path} has no argument `version`, so its runs are not found; name one by --ckpt_path"
        )
    folder = log_folder(settings.trainer)
    own = checkpoint_folders(settings.trainer)
    checkpoint = last_checkpoint(folder, *own)
    if checkpoint is None:
        places = " or ".join(map(str, (folder, *own)))
        rank_zero_info(f"--resume: there is no checkpoint in {places} yet, so training starts from the beginning")
        return
    settings.ckpt_path = str(checkpoint)
    # Without settings of its own, the logger begins another folder.
    if not isinstance(logger, bool) and checkpoint.parent not in own:
        version = checkpoint.parents[1].name
        number = version.removeprefix("version_")
        logger.init_args.version = int(number) if number.isdecimal() and number != version else version


def check_checkpoint(name: str) -> None:
    """Check before anything is made that `--ckpt_path` names a whole checkpoint; addresses and folders are not read.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is truncated or something else.
    """
    file = Path(name)
    if name in FOUND_BY_LIGHTNING or ":" in name or file.is_dir():
        return
    if not file.is_file():
        raise FileNotFoundError(f"--ckpt_path {file}: checkpoint not found; check the path")
    if not zipfile.is_zipfile(file):
        raise ValueError(f"--ckpt_path {file}: corrupt, or not a checkpoint; copy it again or name another")


def keep_metrics(trainer: Trainer) -> None:
    """Rename `metrics.csv` of the run folders that are written to again, since Lightning's CSVLogger would delete it."""
    if not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger) and (file := Path(logger.log_dir) / "metrics.csv").is_file():
            number = 1
            while (kept := file.with_name(f"metrics-{number}.csv")).exists():
                number += 1
            file.rename(kept)
