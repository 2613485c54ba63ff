"""`pcclip fit|validate|test|predict --config FILE ...`: the LightningCLI of this project."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from omegaconf.errors import OmegaConfBaseException

from pcclip.callbacks.data_monitor import DataMonitor
from pcclip.callbacks.predictions import Predictions
from pcclip.callbacks.run_config import RunConfig
from pcclip.data import PairDataModule
from pcclip.model import LitDifferenceCLIP
from pcclip.resume import check_checkpoint, keep_metrics, resume
from pcclip.run_folder import goes_on, refuse_to_overwrite

_WORKER = re.compile(r"Caught \w+ in DataLoader worker")  # how torch raises a worker's error again, with its traceback
_FRAME = re.compile(r'^  File "(.+?)", line', re.MULTILINE)


class OneLineParser(LightningArgumentParser):
    """Lightning's parser, with errors of one line and without a page of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and exit with code 2."""
        print_error(f"{' '.join(message.split())} (see {self.prog} --help)")
        sys.exit(2)


class PairCLI(LightningCLI):
    """LightningCLI for the one module and data module of this project.

    It has a parser for one command, not LightningCLI's subcommands: interpolation such as `${run}` then starts at the root of
    the settings, and three parsers less are built.

    Args:
        command: `fit`, `validate`, `test` or `predict`.
        args: Its command line.
    """

    def __init__(self, command: str, args: Sequence[str]) -> None:
        self.command = command
        super().__init__(
            LitDifferenceCLIP,
            PairDataModule,
            args=list(args),
            run=False,
            trainer_defaults={"callbacks": DataMonitor()},
            seed_everything_default=0,
            parser_class=OneLineParser,
            parser_kwargs={"prog": f"pcclip {command}", "parser_mode": "omegaconf+"},
            save_config_callback=RunConfig,
            # The module builds its own parameter groups and schedule.
            auto_configure_optimizers=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Let one seed govern weights and data, let runs be resumed, and add what is set for the whole process."""
        skip: set[str | int] = {*self.subcommands()[self.command]}
        self._method_arguments = parser.add_method_arguments(Trainer, self.command, skip=skip)
        parser.add_lightning_class_args(Predictions, "predictions")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.add_argument(
            "--run", type=str, default="runs", help="folder of the run's outputs: ${run} in settings stands for it"
        )
        parser.add_argument(
            "--float32_matmul_precision",
            type=Literal["highest", "high", "medium"],
            default="highest",
            help="torch.set_float32_matmul_precision; `high` lets GPUs multiply in TF32 where float32 is left.",
        )
        parser.add_argument(
            "--resume",
            type=bool,
            default=False,
            help="fit: go on from the last checkpoint of trainer.logger's runs; from the beginning where there is none",
        )
        parser.add_argument(
            "--overwrite",
            type=bool,
            default=False,
            help="replace models, tables, predictions and run folders that other runs left where this one writes to",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line, and check the checkpoint before anything is made."""
        try:
            self.config = parser.parse_args(args)
        except OmegaConfBaseException as error:  # such as `${...}` with a name that no setting has
            parser.error(str(error))
        if self.config.ckpt_path is not None:
            check_checkpoint(self.config.ckpt_path)

    def before_instantiate_classes(self) -> None:
        """Set what is set for the whole process, and find the checkpoint to go on from."""
        torch.set_float32_matmul_precision(self.config.float32_matmul_precision)
        if self.command == "fit" and self.config.resume:
            resume(self.config)

    def instantiate_classes(self) -> None:
        """Check outputs and data before anything is made, since weights may have to be downloaded."""
        settings = self.config
        resumed = self.command == "fit" and goes_on(settings)
        if not (settings.overwrite or resumed or settings.trainer.fast_dev_run):
            refuse_to_overwrite(self.command, settings)
        data = PairDataModule(**settings.data.as_dict())
        data.check_folders(self.command, settings.model.difference_weight)
        super().instantiate_classes()
        trainer: Any = self.trainer  # declares its callbacks nowhere
        if trainer.fast_dev_run:  # Lightning's own would still save the last state at the end
            trainer.callbacks = [each for each in trainer.callbacks if not isinstance(each, ModelCheckpoint)]
        if resumed or not settings.overwrite:
            keep_metrics(trainer)

    def execute(self) -> None:
        """Run the command."""
        arguments = {name: self.config_init[name] for name in self._method_arguments}
        getattr(self.trainer, self.command)(self.model, datamodule=self.datamodule, **arguments)


def main(command: str, args: Sequence[str]) -> int:
    """Run `pcclip fit|validate|test|predict`; print expected errors in one line.

    Errors of files and of Lightning's settings are expected, and ValueErrors that this package raises itself. Others are
    raised: they are bugs, for which the traceback is needed.

    Returns:
        The exit code: 0; 2 after an expected error; 130 after Ctrl-C where no checkpoint is to be saved.
    """
    try:
        PairCLI(command, args).execute()
    except (OSError, MisconfigurationException) as error:
        print_error(_message(error))
        return 2
    except ValueError as error:
        if not _raised_here(error):
            raise
        print_error(_message(error))
        return 2
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # which Lightning ends with code 1
            return 130
        raise
    except KeyboardInterrupt:
        return 130
    return 0


def print_error(message: str) -> None:
    """Print an error in one line, after the rank of any process but the first."""
    rank: int = getattr(rank_zero_only, "rank", 0)  # set by Lightning
    print(f"{f'rank {rank}: ' if rank else ''}pcclip: error: {' '.join(message.split())}", file=sys.stderr)


def _message(error: Exception) -> str:
    """Return an error's message, and of one that a DataLoader's worker raised only the message, without the traceback."""
    text = str(error)
    return text.rpartition(f"\n{type(error).__name__}: ")[2] if _WORKER.match(text) else text


def _raised_here(error: Exception) -> bool:
    """Return whether this package raised an error itself, also in a DataLoader's worker."""
    if _WORKER.match(str(error)):
        file = _FRAME.findall(str(error))[-1]
    else:
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        file = traceback.tb_frame.f_code.co_filename if traceback is not None else ""
    return Path(__file__).parent in Path(file).parents
