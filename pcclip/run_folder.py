"""The folder of a run, by one rule for all loggers, and the outputs of other runs that it must not overwrite."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import instantiate_class

FOUND_BY_LIGHTNING = ("last", "best", "hpc")  # values of --ckpt_path that Lightning looks for in the run's own folders


def run_folder(trainer: Trainer) -> Path:
    """Return the folder of the run's files: Lightning's rule for checkpoints, without the last part `checkpoints`.

    It is `save_dir/name/version` of the first logger, and `default_root_dir` without a logger. Every process must call it.
    """
    folder = Path(trainer.default_root_dir)
    if trainer.loggers:
        logger = trainer.loggers[0]
        version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
        folder = Path(logger.save_dir or folder) / str(logger.name) / version
    found: Path = trainer.strategy.broadcast(folder)
    return found


def first_logger(trainer: Any) -> Any:
    """Return the settings of the first logger in the section `trainer`: a Namespace, True or False."""
    logger = trainer.logger
    if isinstance(logger, list):
        logger = logger[0] if logger else False
    return True if logger is None else logger


def log_folder(trainer: Any) -> Path:
    """Return the folder that holds the runs' folders, by the section `trainer`; without a logger the only run's own.

    The logger is made to ask it for its `save_dir` and `name`.
    """
    root = Path(trainer.default_root_dir or ".")
    settings = first_logger(trainer)
    if isinstance(settings, bool):
        return root / "lightning_logs" if settings else root
    logger = instantiate_class((), settings.as_dict())
    return Path(logger.save_dir or root) / str(logger.name)


def checkpoint_folders(trainer: Any) -> list[Path]:
    """Return each `dirpath` of the checkpoint callbacks in the section `trainer`."""
    arguments = [arguments for kind, arguments in _callbacks(trainer) if kind in ("Checkpoint", "ModelCheckpoint")]
    return [Path(each["dirpath"]) for each in arguments if each.get("dirpath")]


def goes_on(settings: Any) -> bool:
    """Return whether `fit` resumes from its own checkpoint: one in the run folder or a `dirpath` that it writes to."""
    if settings.ckpt_path is None:
        return False
    if settings.resume or settings.ckpt_path in FOUND_BY_LIGHTNING:
        return True
    run = _named_run(settings.trainer)
    own = [*checkpoint_folders(settings.trainer), *([run] if run else [])]
    return any(folder.resolve() in Path(settings.ckpt_path).resolve().parents for folder in own)


def refuse_to_overwrite(command: str, settings: Any) -> None:
    """Check that no output of another run is where a command's settings put theirs.

    `test` adds columns to its table of results, so the table may be there.

    Args:
        command: `fit`, `validate`, `test` or `predict`.
        settings: Its section of the configuration.

    Raises:
        FileExistsError: Names the output and the remedy.
    """
    for output in _outputs(command, settings):
        if output.is_file() or (output.is_dir() and any(output.iterdir())):
            raise FileExistsError(
                f"{output}: is there already, from another run; name another place, or replace it with --overwrite true"
            )


def _outputs(command: str, settings: Any) -> Iterator[Path]:
    for kind, arguments in _callbacks(settings.trainer):
        if command == "fit" and kind == "SaveModel":
            yield Path(arguments["folder"])
        elif command == "fit" and kind == "ResultsTable":
            yield Path(arguments["file"])
    if command == "predict" and settings.predictions.file:
        yield Path(settings.predictions.file)
        return
    if command == "fit":
        yield from (folder / "last.ckpt" for folder in checkpoint_folders(settings.trainer))
    run = _named_run(settings.trainer)
    if run is not None and command == "predict":
        yield run / "predictions.jsonl"
    elif run is not None and first_logger(settings.trainer) is not False:
        yield run / "checkpoints"
    elif run is not None and command == "fit":
        yield run / "checkpoints" / "last.ckpt"


def _callbacks(trainer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the class name and the arguments of each callback in the section `trainer`."""
    callbacks = trainer.callbacks or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        yield callback.class_path.rpartition(".")[2], callback.get("init_args") or {}


def _named_run(trainer: Any) -> Path | None:
    """Return the run folder if the settings name it: by a logger's `version`, or because there is no logger."""
    logger = first_logger(trainer)
    if isinstance(logger, bool):
        return None if logger else log_folder(trainer)
    version = (logger.get("init_args") or {}).get("version")
    if version is None:
        return None
    return log_folder(trainer) / (version if isinstance(version, str) else f"version_{version}")
