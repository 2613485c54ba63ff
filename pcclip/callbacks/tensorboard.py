"""Write ranked pictures, sample texts and a layout of charts to TensorBoard."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from pcclip.reports.contact_sheet import stacked
from pcclip.reports.headlines import Headline
from pcclip.reports.sample_pairs import SamplePair

SUMMARY = "summary/"  # the headlines
DETAIL = "detail/"  # all numbers, by their names
BASE = "detail/base/"  # the headlines of the base model, again at each evaluation, so that charts show them as a line

BEFORE = "before training"


def writers(trainer: Trainer) -> list[Any]:
    """Return the `SummaryWriter` of each TensorBoard logger."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def add_layout(writer: Any, found: Sequence[Headline]) -> None:
    """Define the charts of the page "Custom Scalars": the headlines, each with the base model's value, and the losses."""
    charts = {
        headline.label: ["Multiline", [f"^{SUMMARY}{headline.tag}$", f"^{BASE}{headline.tag}$"]] for headline in found
    }
    training = {"loss": ["Multiline", ["^train/loss$", "^val/loss$"]], "learning rate": ["Multiline", ["^lr-"]]}
    writer.add_custom_scalars({"Base and now": charts, "Training": training})


def add_strips(writer: Any, before: Mapping[str, Image.Image], now: Mapping[str, Image.Image], step: int) -> None:
    """Add pictures ranked by the current model, below the ranking from before training if there is one."""
    for name, picture in now.items():
        rows = {BEFORE: before[name]} if name in before else {}
        rows[f"at step {step}" if step > 0 else BEFORE] = picture
        writer.add_image(f"ranked/{name}", np.asarray(stacked(rows)), step, dataformats="HWC")


def add_samples(writer: Any, before: Sequence[SamplePair], now: Sequence[SamplePair], step: int) -> None:
    """Add sample pairs: text, reverse text, and their margin now and, if known, before training."""
    known = len(before) == len(now)
    rows = [
        f"| {sample.text} | {sample.reverse} | {_margin(before[place]) if known else ''} | {_margin(sample)} |"
        for place, sample in enumerate(now)
    ]
    head = ["| true text | its reverse | cosine, true minus reverse: before | now |", "|---|---|---|---|"]
    if rows:
        writer.add_text("samples", "\n".join([*head, *rows]), step)


def _margin(sample: SamplePair) -> str:
    return f"{sample.score - sample.reverse_score:+.3f}"
