"""What training prints."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_info

from pcclip.callbacks import Evaluation
from pcclip.callbacks.training_progress import TrainingProgress
from pcclip.console import quiet_lightning
from tests.helpers.world import TinyModule, shot

Make = Callable[..., Trainer]


def test_one_bar_and_a_line_for_each_stage(
    world: Path, tmp_path: Path, make_trainer: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    callbacks = [TrainingProgress(), Evaluation([shot(world)], resamples=5)]
    trainer = make_trainer(callbacks, 2, enable_progress_bar=True, logger=CSVLogger(tmp_path))
    trainer.fit(TinyModule())
    printed = capfd.readouterr()
    ticks = [line for line in printed.out.splitlines() if line.startswith(("✓", "done:"))]
    assert len(ticks) == 3
    assert "8 steps" in ticks[1]
    assert "\x1b" not in printed.out
    assert "0/8" in printed.err
    assert "v_num" not in printed.err
    trainer.test(TinyModule(), verbose=False)
    assert "0/1" in capfd.readouterr().err


def test_no_line_where_progress_is_disabled(world: Path, make_trainer: Make, capfd: pytest.CaptureFixture[str]) -> None:
    progress = TrainingProgress()
    progress.disable()
    make_trainer([progress, Evaluation([shot(world)], resamples=5)], 1, enable_progress_bar=True).fit(TinyModule())
    printed = capfd.readouterr()
    assert not [line for line in printed.out.splitlines() if "✓" in line or "steps" in line]
    assert "0/4" not in printed.err


def test_messages_that_nobody_can_act_on_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    quiet_lightning()
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addHandler(caplog.handler)
    try:
        for message in ("GPU available: False, used: False", "💡 Tip: install this", "saved in last.ckpt"):
            rank_zero_info(message)
    finally:
        logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"saved in last.ckpt"}
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        quiet_lightning()
        warnings.warn("Found 80 module(s) in eval mode at the start of training. This may ...", stacklevel=1)
        warnings.warn("data.jsonl: 3 rows are left out", stacklevel=1)
    assert [str(warning.message) for warning in found] == ["data.jsonl: 3 rows are left out"]
