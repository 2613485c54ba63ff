"""Batch norms that train on several processes are converted without losing anything, or warned of."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from torch import nn

from pcclip.model.batch_norm import synchronise
from tests.helpers.models import KINDS, TIMM, make_module, write_config


def trainer_with(sync: bool, world_size: int, device: str) -> Any:
    strategy = SimpleNamespace(_layer_sync=TorchSyncBatchNorm() if sync else None, root_device=torch.device(device))
    return SimpleNamespace(strategy=strategy, world_size=world_size)


@pytest.fixture
def mobile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tower whose batch norms hold its activations."""
    tower = {**TIMM, "timm_model_name": "mobilenetv2_035"}
    monkeypatch.setitem(KINDS, "mobile", {"vision_cfg": tower})
    return write_config(tmp_path, "mobile")


def test_synchronised_norms_keep_their_activations(mobile: str) -> None:
    tower = make_module(["all"], mobile).model.towers.visual
    images = torch.randn(2, 3, 32, 32)
    names, before = list(tower.state_dict()), tower.eval()(images)
    trainer = trainer_with(True, 2, "cuda")
    synchronise(trainer, tower.train())
    assert trainer.strategy._layer_sync is None
    assert any(isinstance(child, nn.SyncBatchNorm) for child in tower.modules())
    assert list(tower.state_dict()) == names
    assert torch.equal(tower.eval()(images), before)
    lost = nn.SyncBatchNorm.convert_sync_batchnorm(make_module(["all"], mobile).model.towers.visual)
    assert not torch.equal(lost.eval()(images), before)  # why Lightning's own conversion is not used


@pytest.mark.parametrize(
    ("parts", "sync", "world_size", "device", "warned"),
    [
        (["all"], False, 2, "cuda", True),
        (["all"], True, 2, "cpu", True),
        (["all"], True, 2, "cuda", False),
        (["all"], False, 1, "cpu", False),
        (["text"], False, 2, "cpu", False),
    ],
)
def test_inexact_training_is_warned_of(
    mobile: str, parts: list[str], sync: bool, world_size: int, device: str, warned: bool
) -> None:
    tower = make_module(parts, mobile).model.towers.visual
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        synchronise(cast(Trainer, trainer_with(sync, world_size, device)), tower)
    assert [warning for warning in caught if "sync_batchnorm" in str(warning.message)] == caught
    assert bool(caught) is warned
