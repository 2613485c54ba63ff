"""Show ranked pictures and sample texts in Lightning's loggers, and lay out TensorBoard's charts.

Scalars need none of this: every logger has `log_metrics`. For pictures and tables each has its own call.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from pcclip.reports.contact_sheet import stacked
from pcclip.reports.headlines import Headline
from pcclip.reports.sample_pairs import SamplePair
from pcclip.results import markdown_rows

SUMMARY = "summary/"  # the headlines
DETAIL = "detail/"  # all numbers, by their names
BASE = "detail/base/"  # the headlines of the base model, again at each evaluation, so that charts show them as a line

BEFORE = "before training"
COLUMNS = ["true text", "its reverse", "cosine, true minus reverse: before", "cosine, true minus reverse: now"]


def showing(trainer: Trainer) -> list[Logger]:
    """Return the loggers that show pictures and tables."""
    return [each for each in trainer.loggers if isinstance(each, TensorBoardLogger | WandbLogger | MLFlowLogger)]


def add_layout(logger: Logger, found: Sequence[Headline]) -> None:
    """Define the charts of TensorBoard's page "Custom Scalars": each headline with the base model's value, and the losses."""
    if isinstance(logger, TensorBoardLogger):
        charts = {
            headline.label: ["Multiline", [f"^{SUMMARY}{headline.tag}$", f"^{BASE}{headline.tag}$"]]
            for headline in found
        }
        training = {"loss": ["Multiline", ["^train/loss$", "^val/loss$"]], "learning rate": ["Multiline", ["^lr-"]]}
        logger.experiment.add_custom_scalars({"Base and now": charts, "Training": training})


def add_strips(logger: Logger, before: Mapping[str, Image.Image], now: Mapping[str, Image.Image], step: int) -> None:
    """Add pictures ranked by the current model, below the ranking from before training if there is one."""
    for name, picture in now.items():
        rows = {BEFORE: before[name]} if name in before else {}
        rows[f"at step {step}" if step > 0 else BEFORE] = picture
        _add_picture(logger, f"ranked/{name}", stacked(rows), step)


def add_samples(logger: Logger, before: Sequence[SamplePair], now: Sequence[SamplePair], step: int) -> None:
    """Add sample pairs: text, reverse text, and their margin now and, if known, before training."""
    known = len(before) == len(now)
    rows = [
        [sample.text, sample.reverse, _margin(before[place]) if known else "", _margin(sample)]
        for place, sample in enumerate(now)
    ]
    if rows:
        _add_table(logger, "samples", rows, step)


def _add_picture(logger: Logger, name: str, picture: Image.Image, step: int) -> None:
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, np.asarray(picture), step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [picture], step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, picture, key=name, step=step)


def _add_table(logger: Logger, name: str, rows: list[list[str]], step: int) -> None:
    text = markdown_rows([COLUMNS, *rows])
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_text(name, text, step)
    elif isinstance(logger, WandbLogger):
        logger.log_table(name, COLUMNS, rows, step=step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_text(logger.run_id, text, f"{name}/step_{step}.md")


def _margin(sample: SamplePair) -> str:
    return f"{sample.score - sample.reverse_score:+.3f}"
