"""The folder of a run's files, by one rule for all loggers."""

from pathlib import Path

from lightning.pytorch import Trainer


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
