"""CLIP with a difference head, its losses, and the LightningModule that trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcclip.model.clip import DifferenceCLIP
from pcclip.model.loading import ClipSource, load_clip, save_clip
from pcclip.model.optim import Exponential, Schedule, WarmupCosine

if TYPE_CHECKING:
    from pcclip.model.module import LitDifferenceCLIP as LitDifferenceCLIP

__all__ = [
    "ClipSource",
    "DifferenceCLIP",
    "Exponential",
    "LitDifferenceCLIP",
    "Schedule",
    "WarmupCosine",
    "load_clip",
    "save_clip",
]


def __getattr__(name: str) -> object:
    # Imported on first use: a tool that loads a model needs no Lightning.
    if name == "LitDifferenceCLIP":
        from pcclip.model.module import LitDifferenceCLIP

        return LitDifferenceCLIP
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
