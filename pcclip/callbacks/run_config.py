"""Save the run's configuration next to its logs, and show it in TensorBoard."""

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from pcclip.atomic import atomic_text
from pcclip.callbacks.evaluation import last_step
from pcclip.callbacks.loggers import SUMMARY
from pcclip.run_folder import run_folder


class RunConfig(SaveConfigCallback):
    """Write `config.yaml` into the run's folder. Log the hyperparameters together with the last metrics.

    Checkpoints contain no hyperparameters, because Lightning would let them override the command line.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file. A run without a logger has no folder, so nothing is written."""
        if not trainer.loggers or self.already_saved:
            return
        folder = run_folder(trainer)
        self._text = self.parser.dump(self.config, skip_none=False)
        if trainer.is_global_zero:
            with atomic_text(folder / "config.yaml") as stream:
                stream.write(self._text)
        self.already_saved = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the hyperparameters and the last metrics once."""
        if not trainer.loggers:
            return
        config = yaml.safe_load(self._text)
        settings = {section: config[section] for section in ("model", "data")}
        shown = (SUMMARY, "val/loss")
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(shown)}
        for logger in trainer.loggers:
            try:
                logger.log_hyperparams(settings, metrics, last_step(trainer))
            except TypeError:  # only TensorBoard's takes the metrics along
                logger.log_hyperparams(settings)
