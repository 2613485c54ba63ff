"""A run goes on where it ended, after a signal and from any step, and a checkpoint is whole or not there."""

import multiprocessing
import os
import re
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from benchmarks import kill
from pcclip.callbacks import Checkpoint
from pcclip.callbacks.checkpoint import SIGNALS, WholeFileIO
from pcclip.resume import last_checkpoint
from tests.data.test_datamodule import Recorder, make_data, make_module, make_trainer
from tests.helpers.batches import same
from tests.helpers.shards import write_image_shards


class Signal(Callback):
    """Sends this process a signal while a batch is computed."""

    def __init__(self, batch: int, number: signal.Signals) -> None:
        self.batch = batch
        self.number = number

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.batch:
            os.kill(os.getpid(), self.number)


def fit(folder: Path, shards: Path, *callbacks: Callback, resume: bool = False, **settings: Any) -> Recorder:
    """Two epochs of ten batches with a step after every two; returns what was recorded, also when it ends early."""
    seed_everything(3)
    seen = Recorder()
    data = make_data(shards, val=shards, groups_per_batch=1, **settings)
    checkpoint = Checkpoint(3, dirpath=str(folder))
    trainer = make_trainer(folder, 2, seen, *callbacks, checkpoint, accumulate_grad_batches=2)
    try:
        trainer.fit(make_module(head="mlp"), data, ckpt_path=folder / "last.ckpt" if resume else None)
    except SystemExit as end:
        seen.code = end.code
    return seen


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_shards(tmp_path_factory.mktemp("shards"), groups=10, group_size=4, groups_per_shard=4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Recorder:
    """The run that nothing ends early."""
    return fit(tmp_path_factory.mktemp("whole"), shards)


@pytest.mark.parametrize(
    ("batch", "number"),
    [
        (6, signal.SIGINT),
        pytest.param(8, signal.SIGUSR1, marks=pytest.mark.slow),  # the last of an epoch
        pytest.param(12, signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
def test_signal_saves_ends_and_resumes(
    tmp_path: Path, shards: Path, whole: Recorder, batch: int, number: signal.Signals
) -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    first = fit(tmp_path / "cut", shards, Signal(batch, number))
    assert first.code == 128 + number
    assert {number: signal.getsignal(number) for number in before} == before
    assert len(first.train) == batch // 2 * 2 + 2  # the step is finished first
    second = fit(tmp_path / "cut", shards, resume=True, num_workers=1 if batch == 6 else 0)
    assert len(whole.train) == 20
    assert same(first.train + second.train, whole.train)
    assert first.losses + second.losses == whole.losses


def test_second_interrupt_ends_at_once(tmp_path: Path, shards: Path) -> None:
    class Twice(Signal):
        def on_before_zero_grad(self, trainer: Trainer, *args: Any) -> None:
            super().on_before_zero_grad(trainer, *args)
            super().on_before_zero_grad(trainer, *args)

    seen = fit(tmp_path, shards, Twice(4, signal.SIGINT))
    assert seen.code == 130
    assert not (tmp_path / "last.ckpt").exists()  # the first is due after step 3


def test_full_disk_leaves_the_last_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    WholeFileIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # a write beyond it fails as on a full disk
    try:
        with pytest.raises(OSError, match=re.escape(str(tmp_path / "last.ckpt"))):
            WholeFileIO().save_checkpoint({"step": torch.zeros(100_000)}, tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"step": 1}


def test_run_that_ends_with_an_epoch_and_again_within_the_next_goes_on(
    tmp_path: Path, shards: Path, whole: Recorder
) -> None:
    parts = [
        fit(tmp_path / "cut", shards, Signal(8, signal.SIGTERM)),  # after whose batch the epoch is over
        fit(tmp_path / "cut", shards, Signal(14, signal.SIGTERM), resume=True),
        fit(tmp_path / "cut", shards, resume=True),
    ]
    assert [len(part.train) for part in parts] == [10, 6, 4]
    assert [part.code for part in parts] == [128 + signal.SIGTERM, 128 + signal.SIGTERM, None]
    assert same([batch for part in parts for batch in part.train], whole.train)
    assert [loss for part in parts for loss in part.losses] == whole.losses


class SignalBeforeTraining(Callback):
    """Sends this process SIGTERM while models are evaluated before the first step."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_signal_before_the_first_step_ends_the_run(
    tmp_path: Path, shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        seen = fit(tmp_path, shards, SignalBeforeTraining())
    assert seen.code == 128 + signal.SIGTERM
    assert not seen.train
    assert "SIGTERM: no step was taken since the start, so there is nothing to save" in caplog.text
    fit(tmp_path, shards, Signal(6, signal.SIGTERM))
    saved = (tmp_path / "last.ckpt").read_bytes()
    seen = fit(tmp_path, shards, SignalBeforeTraining(), resume=True)
    assert seen.code == 128 + signal.SIGTERM
    assert (tmp_path / "last.ckpt").read_bytes() == saved


def test_step_checkpoints_hold_the_last_state(tmp_path: Path, shards: Path) -> None:
    class Fail(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 8:
                raise RuntimeError("the end")

    with pytest.raises(RuntimeError, match="the end"):
        fit(tmp_path, shards, Fail())
    assert [path.name for path in tmp_path.glob("*.ckpt*")] == ["last.ckpt"]
    assert torch.load(tmp_path / "last.ckpt", weights_only=False)["global_step"] == 6


def test_half_written_checkpoint_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WholeFileIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        WholeFileIO().save_checkpoint({"step": 2}, tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"step": 1}


def test_epoch_restarts_when_its_batches_have_changed(tmp_path: Path, shards: Path, whole: Recorder) -> None:
    fit(tmp_path, shards, Signal(12, signal.SIGTERM))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=False)
    saved["PairDataModule"] |= {"trainer.world_size": 2}
    torch.save(saved, tmp_path / "last.ckpt")
    with pytest.warns(UserWarning, match=r"trainer\.world_size"):
        again = fit(tmp_path, shards, resume=True)
    assert same(again.train, whole.train[10:])  # the second epoch from its first batch
    assert again.losses[0] != whole.losses[10]


def test_newest_last_checkpoint_is_found(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for version, age in ((0, 30), (2, 10), (1, 20)):
        file = tmp_path / f"version_{version}" / "checkpoints" / "last.ckpt"
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (1000 - age, 1000 - age))
    assert last_checkpoint(tmp_path) == tmp_path / "version_2" / "checkpoints" / "last.ckpt"


@pytest.mark.slow
def test_killed_run_equals_the_undisturbed_one(tmp_path: Path) -> None:
    assert kill.main(["--kills", "4", "--epochs", "4", "--folder", str(tmp_path)]) == 0


def test_checkpoint_that_a_kill_left_half_written_is_removed_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "last.ckpt"

    def save_and_die() -> None:
        os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
        WholeFileIO().save_checkpoint({}, target)

    process = multiprocessing.get_context("fork").Process(target=save_and_die, daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left != target
    WholeFileIO().save_checkpoint({"step": 1}, target)
    assert [*tmp_path.iterdir()] == [target]


@pytest.mark.parametrize(("number", "hook"), [(signal.SIGTERM, "on_train_epoch_end"), (signal.SIGINT, "on_train_end")])
def test_signal_after_the_last_step_ends_the_final_evaluation(
    tmp_path: Path, shards: Path, number: signal.Signals, hook: str
) -> None:
    class Evaluate(Callback):
        finished = False

        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if hook == "on_train_epoch_end" and trainer.global_step == 10:
                os.kill(os.getpid(), number)

        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if hook == "on_train_end":
                os.kill(os.getpid(), number)
            self.finished = True

    evaluate = Evaluate()
    assert fit(tmp_path, shards, evaluate).code == 128 + number
    assert not evaluate.finished
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 10
    assert not fit(tmp_path, shards, resume=True).train
