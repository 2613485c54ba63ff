"""Resume a run from its last checkpoint, and protect the outputs of other runs."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_info

from pcclip.callbacks.predictions import Predictions
from pcclip.callbacks.results_table import ResultsTable
from pcclip.callbacks.save_model import SaveModel
from pcclip.run_folder import run_folder

FOUND_BY_LIGHTNING = ("last", "best", "hpc")  # values of --ckpt_path that Lightning looks up in the run's own folders


def check_checkpoint(name: str) -> None:
    """Check that `--ckpt_path` names a complete checkpoint, before anything is made. Addresses and folders are not read.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is truncated or no checkpoint.
    """
    file = Path(name)
    if name in FOUND_BY_LIGHTNING or ":" in name or file.is_dir():
        return
    if not file.is_file():
        raise FileNotFoundError(f"--ckpt_path {file}: checkpoint not found; check the path")
    if not zipfile.is_zipfile(file):
        raise ValueError(f"--ckpt_path {file}: corrupt, or not a checkpoint; copy it again or name another")


def last_checkpoint(folder: Path, *others: Path) -> Path | None:
    """Return the newest `last.ckpt` of the run in `folder`, of runs in its subfolders, or in the folders `others`."""
    found = [*folder.glob("checkpoints/last*.ckpt"), *folder.glob("*/checkpoints/last*.ckpt")]
    found += [file for other in others for file in other.glob("last*.ckpt")]
    return max(found, key=lambda path: path.stat().st_mtime) if found else None


def find_checkpoint(trainer: Trainer, settings: Any) -> bool:
    """Set `ckpt_path` of the settings of `fit` to the last checkpoint of the logger's runs, if there is one.

    A job that is restarted again and again can then use one command: it starts from the beginning if there is no checkpoint.

    Returns:
        Whether the logger's `version` was set too, so that the loggers must be made again. A checkpoint in a `dirpath` does
        not say which version it belongs to: the run then begins another folder.

    Raises:
        ValueError: The settings name a checkpoint, or the first logger has no argument `version`.
    """
    if settings.ckpt_path is not None:
        raise ValueError(f"--resume and --ckpt_path={settings.ckpt_path} name two checkpoints; give one of them")
    logger = settings.trainer.logger
    logger = logger[0] if isinstance(logger, list) and logger else logger
    chosen = hasattr(logger, "class_path")  # not Lightning's own, or none
    if chosen and "version" not in (logger.get("init_args") or {}):
        raise ValueError(
            f"--resume: {logger.class_path} has no argument `version`, so its runs are not found; name one by --ckpt_path"
        )
    run, dirpaths = run_folder(trainer), _dirpaths(trainer)
    runs = run.parent if trainer.loggers else run
    checkpoint = last_checkpoint(runs, *dirpaths)
    if checkpoint is None:
        places = " or ".join(map(str, (runs, *dirpaths)))
        rank_zero_info(f"--resume: there is no checkpoint in {places} yet, so training starts from the beginning")
        return False
    settings.ckpt_path = str(checkpoint)
    if not chosen or checkpoint.parent in dirpaths:
        return False
    version = checkpoint.parents[1].name
    number = version.removeprefix("version_")
    logger.init_args.version = int(number) if number.isdecimal() and number != version else version
    return True


def continues(trainer: Trainer, checkpoint: str | None) -> bool:
    """Return whether `fit` resumes from its own checkpoint: one in the run folder or in a `dirpath` that it writes to."""
    if checkpoint is None or checkpoint in FOUND_BY_LIGHTNING:
        return checkpoint is not None
    own = [run_folder(trainer), *_dirpaths(trainer)]
    return any(folder.resolve() in Path(checkpoint).resolve().parents for folder in own)


def refuse_to_overwrite(command: str, trainer: Trainer) -> None:
    """Check that no output of another run is where this command writes.

    `test` adds columns to its table of results, so the table may exist.

    Raises:
        FileExistsError: Names the output and the remedy.
    """
    for output in _outputs(command, trainer):
        if output.is_file() or (output.is_dir() and any(output.iterdir())):
            raise FileExistsError(
                f"{output}: already exists, from another run; name another place, or replace it with --overwrite true"
            )


def keep_metrics(trainer: Trainer) -> None:
    """Rename `metrics.csv` in run folders that are used again, since Lightning's CSVLogger would delete it."""
    if not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger) and (file := Path(logger.log_dir) / "metrics.csv").is_file():
            number = 1
            while (kept := file.with_name(f"metrics-{number}.csv")).exists():
                number += 1
            file.rename(kept)


def _dirpaths(trainer: Trainer) -> list[Path]:
    callbacks = (each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint))
    return [Path(each.dirpath) for each in callbacks if each.dirpath]


def _outputs(command: str, trainer: Trainer) -> Iterator[Path]:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # declared nowhere in Trainer
    if command == "predict":
        yield from (each.path(trainer) for each in callbacks if isinstance(each, Predictions))
        return
    if command == "fit":
        for callback in callbacks:
            if isinstance(callback, SaveModel):
                yield callback.folder
            elif isinstance(callback, ResultsTable):
                yield Path(callback.file)
        yield from (folder / "last.ckpt" for folder in _dirpaths(trainer))
    checkpoints = run_folder(trainer) / "checkpoints"
    if trainer.loggers:
        yield checkpoints
    elif command == "fit":
        yield checkpoints / "last.ckpt"
