"""The `pcclip` command: `pcclip fit|validate|test|predict --config FILE ...`, a LightningCLI."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from pcclip.callbacks.run_config import RunConfig
from pcclip.data import PairDataModule
from pcclip.model import DifferenceCLIP
from pcclip.resume import resume


class PairCLI(LightningCLI):
    """LightningCLI for the one module and data module of this project."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Let one seed govern weights and data, and runs be resumed."""
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.add_argument(
            "--resume",
            type=bool,
            default=False,
            help="fit: go on from the last checkpoint beside the logs; from the beginning where there is none",
        )

    def before_instantiate_classes(self) -> None:
        """Find the checkpoint to go on from."""
        if self.subcommand == "fit" and self.config.fit.resume:
            resume(self.config.fit)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line `args`, those of the process by default."""
    PairCLI(
        DifferenceCLIP,
        PairDataModule,
        args=None if args is None else list(args),
        seed_everything_default=0,
        save_config_callback=RunConfig,
        # The module builds its own parameter groups and schedule.
        auto_configure_optimizers=False,
    )


if __name__ == "__main__":
    main()
