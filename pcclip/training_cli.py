"""`pcclip fit|validate|test|predict --config FILE ...`: a LightningCLI."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from jsonargparse import Namespace, set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from pcclip.callbacks.data_monitor import DataMonitor
from pcclip.callbacks.evaluation import CheckMonitors, Evaluation
from pcclip.callbacks.predictions import Predictions
from pcclip.callbacks.run_config import RunConfig
from pcclip.callbacks.training_progress import TrainingProgress
from pcclip.command_line import parse
from pcclip.console import quiet_lightning
from pcclip.data.datamodule import PairDataModule
from pcclip.model.module import LitDifferenceCLIP
from pcclip.resume import check_checkpoint, continues, find_checkpoint, keep_metrics, refuse_to_overwrite
from pcclip.tasks import Task


class PairCLI(LightningCLI):
    """LightningCLI for one command.

    It does not use LightningCLI's subcommands. So interpolation such as `${run}` starts at the root of the settings, and only
    one parser is built instead of four.

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
            trainer_defaults={"callbacks": [DataMonitor(), CheckMonitors()], "enable_model_summary": False},
            seed_everything_default=0,
            parser_kwargs={"prog": f"pcclip {command}", "parser_mode": "omegaconf+", "exit_on_error": False},
            save_config_callback=RunConfig,
            # The module makes its own parameter groups and schedule.
            auto_configure_optimizers=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of this project, and use one seed for weights and data."""
        skip: set[str | int] = {*self.subcommands()[self.command]}
        self._method_arguments = parser.add_method_arguments(Trainer, self.command, skip=skip)
        parser.add_lightning_class_args(Predictions, "predictions")
        parser.add_instantiator(_postponed, LitDifferenceCLIP)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.add_argument(
            "--run", type=str, default="runs", help="folder of the run's outputs; other settings can use it as ${run}"
        )
        parser.add_argument(
            "--set", type=str, default="", help="name of a dataset; files of conf/eval use it as ${set}"
        )
        parser.add_argument(
            "--tasks",
            type=list[Task],
            default=[],
            sub_configs=True,
            help="evaluation tasks; files of conf/eval use them as ${tasks}",
        )
        parser.add_argument(
            "--float32_matmul_precision",
            type=Literal["highest", "high", "medium"],
            default="highest",
            help="torch.set_float32_matmul_precision; `high` uses TF32 on GPUs",
        )
        parser.add_argument(
            "--resume",
            type=bool,
            default=False,
            help="fit: resume from the last checkpoint of the run; start from the beginning if there is none",
        )
        parser.add_argument(
            "--overwrite",
            type=bool,
            default=False,
            help="replace existing models, tables, predictions and run folders of other runs",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line, and check that `ckpt_path` exists."""
        self.config = parse(parser, args)
        if self.config.ckpt_path is not None:
            check_checkpoint(self.config.ckpt_path)

    def instantiate_classes(self) -> None:
        """Make the model last, since this may download weights. Check outputs, data and evaluation files first."""
        settings = self.config
        torch.set_float32_matmul_precision(settings.float32_matmul_precision)
        self.config_init = self.parser.instantiate_classes(settings)
        self.datamodule = self.config_init.data
        callbacks = self.config_init.trainer.callbacks
        listed = callbacks if isinstance(callbacks, list) else [callbacks]
        own_bar = any(isinstance(each, ProgressBar) for each in listed)
        trainer: Any = self.instantiate_trainer()  # Trainer does not declare its callbacks
        self.trainer = trainer
        if self.command == "fit" and settings.resume and find_checkpoint(trainer, settings):
            trainer.loggers = self.made("logger", settings.trainer.logger)
        self.config_init.ckpt_path = settings.ckpt_path
        resumed = self.command == "fit" and continues(trainer, settings.ckpt_path)
        if not own_bar:
            default = [each for each in trainer.callbacks if isinstance(each, ProgressBar)]
            rest = [each for each in trainer.callbacks if each not in default]
            trainer.callbacks = [*(TrainingProgress() for _ in default), *rest]
        if trainer.fast_dev_run:  # Lightning's own would save the last state
            trainer.callbacks = [each for each in trainer.callbacks if not isinstance(each, ModelCheckpoint)]
        elif not (settings.overwrite or resumed):
            refuse_to_overwrite(self.command, trainer)
        model = settings.model
        captions = model.caption_weight + model.keep_weight > 0
        self.datamodule.check_folders(self.command, model.difference_weight, captions)
        if self.command in ("fit", "test"):
            evaluations = [callback for callback in trainer.callbacks if isinstance(callback, Evaluation)]
            measured = {task.title for callback in evaluations for task in callback.evaluator.tasks}
            if unused := [task.title for task in self.config_init.tasks if task.title not in measured]:
                raise ValueError(
                    f"tasks: no callback measures {', '.join(unused)}; "
                    'add pcclip.callbacks.Evaluation with {tasks: "${tasks}"} to trainer.callbacks'
                )
            for callback in evaluations:
                callback.evaluator.prepare()
        self.model = self.config_init.model()
        if resumed or not settings.overwrite:
            keep_metrics(trainer)

    def made(self, name: str, settings: Any) -> list[Any]:
        """Return the objects of one setting of the trainer, such as `logger`."""
        part = Namespace(trainer=Namespace({name: settings}))  # type: ignore[no-untyped-call]
        found = self.parser.instantiate_classes(part, instantiate_groups=False).trainer[name]
        return found if isinstance(found, list) else [found]

    def execute(self) -> None:
        arguments = {name: self.config_init[name] for name in self._method_arguments}
        getattr(self.trainer, self.command)(self.model, datamodule=self.datamodule, **arguments)


def _postponed(kind: type[LitDifferenceCLIP], **settings: Any) -> partial[LitDifferenceCLIP]:
    """Let the parser return the call that makes the model, instead of the model."""
    return partial(kind, **settings)


def train(command: str, args: Sequence[str]) -> None:
    """Run `pcclip fit|validate|test|predict`.

    Raises:
        ValueError: Settings or inputs are wrong, or a monitored metric is not logged.
        OSError: A file is missing or cannot be written.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # help on the fields of tasks
    quiet_lightning()
    try:
        PairCLI(command, args).execute()
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error
    except RuntimeError as error:
        if not str(error).startswith("Early stopping conditioned on metric"):  # EarlyStopping raises plain RuntimeError
            raise
        raise ValueError(str(error)) from error
