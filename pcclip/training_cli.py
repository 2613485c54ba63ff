"""`pcclip fit|validate|test|predict --config FILE ...`: the LightningCLI of this project."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from pcclip.callbacks.run_config import RunConfig
from pcclip.data import PairDataModule
from pcclip.model import DifferenceCLIP


class PairCLI(LightningCLI):
    """LightningCLI for the one module and data module of this project."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Let one seed govern weights and data."""
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)


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
