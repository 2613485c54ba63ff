"""CLIP with a difference head, its losses, and the LightningModule that trains it."""

from pcclip.model.clip import DifferenceModel
from pcclip.model.loading import load_clip, save_clip
from pcclip.model.module import ClipSource, DifferenceCLIP
from pcclip.model.optim import Exponential, Schedule, WarmupCosine

__all__ = [
    "ClipSource",
    "DifferenceCLIP",
    "DifferenceModel",
    "Exponential",
    "Schedule",
    "WarmupCosine",
    "load_clip",
    "save_clip",
]
