"""Terminal output of commands: print finished stages, and hide messages of other packages that users cannot act on."""

import logging
import sys
import warnings

_LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")
_MESSAGES = (
    "GPU available",
    "TPU available",
    "HPU available",
    "LOCAL_RANK",
    "💡 Tip",
    "Loading `train_dataloader`",
    "Seed set to",
    "`Trainer.fit` stopped: `max_",
)
_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"Found \d+ module\(s\) in eval mode at the start of training",  # frozen towers are in eval mode on purpose
    r"This DataLoader will create \d+ worker processes",
    r".* does not have many workers",
    "Total length of `list` across ranks is zero",  # no `data.val`
    r"Detected call of `lr_scheduler.step\(\)`",  # Lightning's own calls, where the first step has no gradients
)


def done(what: str, seconds: float) -> None:
    """Print that a stage is done and how long it took."""
    tick = "✓" if "utf" in (sys.stdout.encoding or "").lower() else "done:"
    print(f"{tick} {what}  {seconds:.1f} s", flush=True)


def quiet_lightning() -> None:
    """Drop messages of Lightning and torch that the user of a command cannot act on. Others stay."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if _is_news not in logger.filters:
            logger.addFilter(_is_news)
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message)


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_MESSAGES)
