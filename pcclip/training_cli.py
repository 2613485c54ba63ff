"""`pcclip fit|validate|test|predict --config FILE ...`: the LightningCLI of this project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from pcclip.callbacks.predictions import Predictions
from pcclip.callbacks.run_config import RunConfig
from pcclip.data import PairDataModule
from pcclip.model import DifferenceCLIP
from pcclip.resume import resume


class PairCLI(LightningCLI):
    """LightningCLI for the one module and data module of this project."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Let one seed govern weights and data, let runs be resumed, and add what is set for the whole process."""
        parser.add_lightning_class_args(Predictions, "predictions")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
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
            help="fit: go on from the last checkpoint beside the logs; from the beginning where there is none",
        )

    def before_instantiate_classes(self) -> None:
        """Set what is set for the whole process, and find the checkpoint to go on from."""
        torch.set_float32_matmul_precision(self._get(self.config, "float32_matmul_precision"))
        if self.subcommand == "fit" and self.config.fit.resume:
            resume(self.config.fit)


def pair_cli(args: Sequence[str] | None = None, *, run: bool = True) -> PairCLI:
    """Parse the command line `args`, those of the process by default, make the objects, and `run` the subcommand."""
    return PairCLI(
        DifferenceCLIP,
        PairDataModule,
        args=None if args is None else list(args),
        run=run,
        seed_everything_default=0,
        save_config_callback=RunConfig,
        # The module builds its own parameter groups and schedule.
        auto_configure_optimizers=False,
    )
