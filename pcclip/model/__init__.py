"""CLIP with a difference head, its losses, and the LightningModule that trains it."""

from pcclip.model.clip import DifferenceCLIP
from pcclip.model.loading import ClipSource, load_clip, save_clip
from pcclip.model.optim import Exponential, Schedule, WarmupCosine

__all__ = ["ClipSource", "DifferenceCLIP", "Exponential", "Schedule", "WarmupCosine", "load_clip", "save_clip"]
