"""The data module under a real Trainer: epochs, resuming, held-out batches, and what is refused before training."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from pcclip.batch import PairBatch
from pcclip.callbacks import DataMonitor
from pcclip.data.datamodule import PairDataModule
from pcclip.model import ClipSource, Exponential, WarmupCosine
from pcclip.model.module import LitDifferenceCLIP
from tests.helpers.batches import same
from tests.helpers.models import TINY, write_config
from tests.helpers.shards import group_record, image_sample, write_dataset, write_embedded_shards


class Recorder(Callback):
    """Keeps the batches of training and validation, the training losses, and the learning rates."""

    def __init__(self) -> None:
        self.train: list[PairBatch] = []
        self.val: list[PairBatch] = []
        self.losses: list[float] = []
        self.code: object = None
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: PairBatch, *_: Any) -> None:
        self.train.append(batch)
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: PairBatch, *_: Any
    ) -> None:
        self.val.append(batch)


def make_module(clip: str = str(TINY), trainable: tuple[str, ...] = ("all",), **settings: Any) -> LitDifferenceCLIP:
    """A module that learns fast enough for losses to differ."""
    torch.manual_seed(0)
    optimizer = settings.pop("optimizer", lambda groups: torch.optim.AdamW(groups, lr=1e-3))
    return LitDifferenceCLIP(ClipSource(clip), list(trainable), optimizer=optimizer, **settings)


def make_trainer(folder: Path, epochs: int, *callbacks: Callback, **settings: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": epochs,
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": list(callbacks),
    }
    return Trainer(**{**defaults, **settings})


def make_data(*train: Path | str, val: Path | None = None, **settings: Any) -> PairDataModule:
    defaults: dict[str, Any] = {
        "groups_per_batch": 2,
        "pairs_per_group": 4,
        "role_swap": 0.3,
        "word_dropout": 0.1,
        "shuffle_block": 3,
        "num_workers": 0,
    }
    return PairDataModule([str(f) for f in train], [str(val)] if val else None, **{**defaults, **settings})


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_resumed_run_equals_the_uninterrupted_one(shards: Path, tmp_path: Path, workers: int) -> None:
    settings: dict[str, Any] = {"caption_weight": 0.5, "learn_logit_scale": True, "head": "mlp"}
    schedule = WarmupCosine(warmup=0.2)
    whole = Recorder()
    every_two_epochs = ModelCheckpoint(tmp_path / "whole", every_n_train_steps=10, save_top_k=-1)
    make_trainer(tmp_path, 3, whole, every_two_epochs).fit(
        uninterrupted := make_module(schedule=schedule, **settings), make_data(shards, val=shards, num_workers=workers)
    )
    parts = Recorder()

    class Stop(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer.should_stop = True

    make_trainer(tmp_path, 3, parts, ModelCheckpoint(tmp_path / "parts", save_last=True, monitor=None), Stop()).fit(
        make_module(schedule=schedule, **settings), make_data(shards, val=shards, num_workers=workers)
    )
    assert len(parts.train) == 5
    make_trainer(tmp_path, 3, parts).fit(
        resumed := make_module(schedule=schedule, **settings),
        make_data(shards, val=shards, num_workers=workers),
        ckpt_path=tmp_path / "parts" / "last.ckpt",
    )
    assert len(whole.train) == 15
    assert same(whole.train, parts.train)
    assert whole.losses == parts.losses
    assert whole.rates == parts.rates
    for (name, mine), other in zip(uninterrupted.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(mine, other), name
    # also from a checkpoint that was written after an epoch's last step, before the epoch ended
    last = Recorder()
    make_trainer(tmp_path, 3, last).fit(
        make_module(schedule=schedule, **settings),
        make_data(shards, val=shards, num_workers=workers),
        ckpt_path=next((tmp_path / "whole").glob("*step=10.ckpt")),
    )
    assert same(whole.train[10:], last.train)
    assert whole.losses[10:] == last.losses


def test_weighted_folders_resume_within_an_epoch(shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "other")
    train = (shards, tmp_path / "other")

    def fit(weights: dict[str, int], **checkpoint: Any) -> Recorder:
        seen = Recorder()
        data = make_data(*train, groups_per_batch=4, train_weights=weights)
        saved = ModelCheckpoint(tmp_path / "saved", every_n_train_steps=7, save_top_k=-1)
        make_trainer(tmp_path, 3, seen, saved).fit(make_module(), data, **checkpoint)
        return seen

    weights = {str(train[1]): 1, str(train[0]): 3}
    whole = fit(weights)
    assert len(whole.train) == 15
    (saved,) = (tmp_path / "saved").glob("*step=7.ckpt")
    resumed = fit(weights, ckpt_path=saved)
    assert same(whole.train[7:], resumed.train)
    assert whole.losses[7:] == resumed.losses
    assert same(whole.train, fit(dict(reversed(weights.items()))).train)
    with pytest.warns(UserWarning, match=r"data\.train_weights.*restarts"):
        assert len(fit({str(train[1]): 1, str(train[0]): 1}, ckpt_path=saved).train) == 10


@pytest.mark.parametrize(
    ("weights", "names"),
    [
        ({"a-{0,1}": 1, "d": 1}, "d"),
        ({"a-{0,1}": 1}, "b needs"),
        ({"a-{0,1}": 1, "a-0": 1, "b": 2}, "a-0 needs"),
        ({"a-{0,1}": 2, "b": 1}, r"4 groups \(data.groups_per_batch\).* 2, 1; .* 3"),
        ({"a-0": 7, "a-1": 14, "b": 7}, None),
        (None, None),
    ],
)
def test_weights_must_fit_the_folders_and_the_batch(weights: dict[str, int] | None, names: str | None) -> None:
    if names is None:
        PairDataModule(["a-{0,1}", "b"], groups_per_batch=4, train_weights=weights)
        return
    with pytest.raises(ValueError, match=rf"data\.train_weights: .*{names}"):
        PairDataModule(["a-{0,1}", "b"], groups_per_batch=4, train_weights=weights)


def test_each_epoch_is_told_to_the_stream_and_held_out_batches_stay(shards: Path, tmp_path: Path) -> None:
    seen = Recorder()
    make_trainer(tmp_path, 3, seen, num_sanity_val_steps=1).fit(make_module(), make_data(shards, val=shards))
    epochs = [seen.train[start : start + 5] for start in (0, 5, 10)]
    assert len(seen.train) == 15
    assert not any(same(epochs[a], epochs[b]) for a, b in ((0, 1), (1, 2), (0, 2)))
    sanity, val = seen.val[:1], seen.val[1:]
    assert same(val[:5], val[5:10])
    assert same(val[:5], val[10:])
    assert same(sanity, val[:1])
    other = Recorder()
    make_trainer(tmp_path, 1, other).fit(make_module(), make_data(shards, seed=1))
    assert not same(other.train, epochs[0])
    # Roles are swapped, and words dropped, in training alone.
    module = make_module()
    ordinary, swapped, short = module.model.tokenizer(["the first is", "the second is", "first is"])[:, 1:4].tolist()
    assert all(row[1:4].tolist() == ordinary for batch in val for row in batch.tokens)
    trained = [row[1:4].tolist() for batch in seen.train for row in batch.tokens]
    assert swapped in trained
    assert short[:2] in [row[:2] for row in trained]


def test_held_out_set_may_be_smaller_than_a_batch(shards: Path, tmp_path: Path) -> None:
    seen = Recorder()
    data = make_data(shards, val=shards, groups_per_batch=100)
    make_trainer(tmp_path, 1, seen).validate(make_module(), data, verbose=False)
    assert [len(batch.first) for batch in seen.val] == [40]
    with pytest.raises(ValueError, match=r"10 groups are fewer than the 100 of one batch .*groups_per_batch"):
        make_trainer(tmp_path, 1, seen).fit(make_module(), data)


def test_draws_follow_the_losses_in_use(shards: Path, tmp_path: Path) -> None:
    for settings, pairs, captions in (
        ({}, 8, 0),
        ({"caption_weight": 1}, 8, 8),
        ({"keep_weight": 1}, 8, 8),
        ({"difference_weight": 0, "caption_weight": 1}, 0, 8),
    ):
        seen = Recorder()
        make_trainer(tmp_path, 1, seen, max_steps=1).fit(make_module(**settings), make_data(shards))
        assert (len(seen.train[0].first), len(seen.train[0].captioned)) == (pairs, captions)
    seen = Recorder()
    data = make_data(shards, captions_per_group=3, pairs_per_group=5)
    make_trainer(tmp_path, 1, seen, max_steps=1).fit(make_module(caption_weight=1), data)
    assert (len(seen.train[0].first), len(seen.train[0].captioned)) == (10, 6)


def test_equal_ids_are_one_picture_in_parts_of_one_dataset_alone(shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "part-0")
    shutil.copytree(shards, tmp_path / "part-1")
    for train, different in (
        ([f"{tmp_path}/part-{{0,1}}"], 40),
        ([f"{tmp_path}/part-0", f"{tmp_path}/part-1"], 80),
    ):
        seen = Recorder()
        make_trainer(tmp_path, 1, seen).fit(make_module(), make_data(*train))
        assert len({key for batch in seen.train for key in batch.image_ids.tolist()}) == different


def test_pairs_without_role_words_are_counted(tmp_path: Path) -> None:
    records = [group_record(number, 2) for number in range(4)]
    records[0]["pairs"][0]["text"] = records[1]["pairs"][0]["text"] = records[1]["pairs"][1]["text"] = "smaller"
    samples = [image_sample(number, record) for number, record in enumerate(records)]
    folder = write_dataset(tmp_path / "few", [samples], {"kind": "images", "group_size": 2, "images": 8, "pairs": 8})
    trainer = make_trainer(tmp_path, 2, DataMonitor())
    with pytest.warns(UserWarning, match=r"data\.role_swap=twins: 3 pairs") as caught:
        trainer.fit(make_module(), make_data(folder, role_swap="twins"))
    assert sum("data.role_swap" in str(warning.message) for warning in caught) == 1
    assert float(trainer.callback_metrics["data/roleless"]) == 3
    trainer = make_trainer(tmp_path, 1, DataMonitor())
    trainer.fit(make_module(), make_data(folder))
    assert "data/roleless" not in trainer.callback_metrics


@pytest.mark.parametrize(
    ("accumulate", "limit"),
    [(2, {}), (2, {"limit_train_batches": 3}), (1, {"max_steps": 7}), (2, {"max_steps": 4, "max_epochs": -1})],
)
def test_exponential_schedule_falls_once_an_epoch(
    shards: Path, tmp_path: Path, accumulate: int, limit: dict[str, int]
) -> None:
    seen = Recorder()
    trainer = make_trainer(tmp_path, 3, seen, **{"accumulate_grad_batches": accumulate, **limit})
    trainer.fit(make_module(schedule=Exponential(0.5)), make_data(shards))
    per_epoch = limit.get("limit_train_batches", 5)
    assert seen.rates == pytest.approx([1e-3 * 0.5 ** (batch // per_epoch) for batch in range(len(seen.rates))])
    assert len(seen.rates) > per_epoch or "max_steps" in limit


def test_warmup_cosine_ends_with_the_run(shards: Path, tmp_path: Path) -> None:
    seen = Recorder()
    trainer = make_trainer(tmp_path, 2, seen, accumulate_grad_batches=2)
    trainer.fit(make_module(schedule=WarmupCosine(warmup=0)), make_data(shards))
    assert trainer.global_step == 6
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0)
    assert seen.rates == sorted(seen.rates, reverse=True)
    with pytest.raises(ValueError, match=r"trainer\.max_epochs"):
        make_trainer(tmp_path, -1).fit(make_module(schedule=Exponential()), make_data(shards))


def test_learned_scales_stay_at_a_hundred_or_below(shards: Path, tmp_path: Path) -> None:
    module = make_module(caption_weight=1, logit_scale=99, learn_logit_scale=True)
    with torch.no_grad():
        module.model.towers.logit_scale.fill_(5.0)  # as SigLIP's, above CLIP's limit
    # Gradients turned round, so that the scales grow.
    module._optimizer = lambda groups: torch.optim.SGD(groups, lr=1, maximize=True)  # type: ignore[assignment, arg-type, return-value]
    make_trainer(tmp_path, 1, max_steps=2).fit(module, make_data(shards))
    assert module.log_logit_scale.item() <= np.log(100) + 1e-6
    assert module.model.towers.logit_scale.item() <= np.log(100) + 1e-6


def test_test_without_data_runs_the_callbacks(tmp_path: Path) -> None:
    class Ended(Callback):
        def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            ended.append(trainer.current_epoch)

    ended: list[int] = []
    make_trainer(tmp_path, 1, Ended()).test(make_module(), PairDataModule(), verbose=False)
    assert ended == [0]


def embedded_folder(folder: Path, fingerprint: str, width: int = 32, name: str = "tiny") -> Path:
    vectors = np.random.default_rng(0).normal(size=(6, 4, width))
    return write_embedded_shards(folder, vectors, fingerprint, name)


def test_embedded_shards_of_the_same_tower_train_without_images(tmp_path: Path) -> None:
    module = make_module(trainable=("text",))
    folder = embedded_folder(tmp_path / "embedded", module.model.image_fingerprint)
    seen = Recorder()
    make_trainer(tmp_path, 1, seen).fit(module, make_data(folder, val=folder))
    assert len(seen.train) == 3
    assert all(batch.images is None for batch in seen.train + seen.val)


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_embedded_shards_of_another_tower_are_refused(tmp_path: Path, stage: str) -> None:
    folder = embedded_folder(tmp_path / "embedded", "0" * 64, name="ViT-L-14")
    with pytest.raises(ValueError, match=r"embedded: .*ViT-L-14.*pcclip-data embed"):
        getattr(make_trainer(tmp_path, 1), stage)(make_module(trainable=("text",)), make_data(folder, val=folder))


def test_data_that_does_not_serve_is_refused_before_training(shards: Path, tmp_path: Path) -> None:
    trains_image_tower = make_module(trainable=("text", "image_projection"))
    embedded = embedded_folder(tmp_path / "embedded", trains_image_tower.model.image_fingerprint)
    samples = [image_sample(number, {**group_record(number, 2), "pairs": []}) for number in range(4)]
    info = {"kind": "images", "group_size": 2, "images": 8, "pairs": 0}
    unpaired = write_dataset(tmp_path / "unpaired", [samples], info)
    seen = Recorder()
    cases: list[tuple[str, LitDifferenceCLIP, PairDataModule, str]] = [
        ("fit", trains_image_tower, make_data(embedded), "embedded"),
        ("fit", make_module(), make_data(shards, unpaired), r"unpaired.*model\.difference_weight"),
        ("fit", make_module(), make_data(shards, tmp_path / "nowhere"), "nowhere"),
        ("fit", make_module(), make_data(shards, val=tmp_path / "nowhere"), "nowhere"),
        ("fit", make_module(), PairDataModule(), r"data\.train"),
        ("fit", make_module(trainable=()), make_data(shards), r"model\.trainable"),
        ("validate", make_module(), make_data(shards), r"data\.val"),
        ("predict", make_module(), make_data(shards, val=unpaired), "unpaired"),
    ]
    for stage, module, data, names in cases:
        with pytest.raises((ValueError, FileNotFoundError), match=names):
            getattr(make_trainer(tmp_path, 1, seen), stage)(module, data)
    assert not seen.train
    make_trainer(tmp_path, 1).fit(make_module(difference_weight=0, caption_weight=1), make_data(unpaired))


def test_folders_without_pairs_add_captions_to_every_batch(shards: Path, tmp_path: Path) -> None:
    samples = [image_sample(number, {**group_record(number, 2), "pairs": []}) for number in range(4)]
    info = {"kind": "images", "group_size": 2, "images": 8, "pairs": 0}
    unpaired = write_dataset(tmp_path / "unpaired", [samples], info)

    def data(**weights: int) -> PairDataModule:
        named = {str(shards): weights["paired"], str(unpaired): weights["unpaired"]} if weights else None
        return make_data(shards, unpaired, groups_per_batch=4, captions_per_group=2, train_weights=named)

    seen = Recorder()
    make_trainer(tmp_path, 3, seen).fit(make_module(caption_weight=1), data(paired=3, unpaired=1))
    assert {(len(batch.first), len(batch.captioned)) for batch in seen.train} == {(3 * 4, 4 * 2)}
    images = {int(key) for batch in seen.train for key in batch.image_ids[batch.captioned[-2:]]}
    assert len(images) == 8  # the folder of the last weight comes last; each of its images has its turn
    for module, wrong in ((make_module(caption_weight=1), data()), (make_module(), data(paired=3, unpaired=1))):
        with pytest.raises(ValueError, match=r"unpaired.*data\.train_weights"):
            make_trainer(tmp_path, 1).fit(module, wrong)


def test_frozen_batch_norm_tower_keeps_its_fingerprint_while_training(shards: Path, tmp_path: Path) -> None:
    module = make_module(write_config(tmp_path, "timm_resnet"), ("text",))
    before = module.model.image_fingerprint
    seen = Recorder()
    make_trainer(tmp_path, 1, seen).fit(module, make_data(shards, val=shards))
    assert module.model.image_fingerprint == before
    assert len(set(seen.losses)) == 5  # the text tower trained


@pytest.mark.parametrize(
    "settings", [{"both_directions": True}, {"role_swap": "twins"}, {"both_directions": True, "role_swap": "twins"}]
)
def test_pairs_must_make_whole_bundles(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"data\.pairs_per_group=5"):
        PairDataModule(["a"], pairs_per_group=5, **settings)


@pytest.mark.parametrize(
    "option",
    [
        *(f"data.{name}=0" for name in ("groups_per_batch", "pairs_per_group", "captions_per_group", "shuffle_block")),
        *(
            "data.num_workers=-1",
            "data.role_swap=1.5",
            "data.word_dropout=-1",
            "data.max_damaged=2",
            "data.max_pixels=0",
        ),
        *(f"model.{name}_weight=-1" for name in ("caption", "sign", "keep")),
        *("model.logit_scale=0", "model.chunk_size=0"),
    ],
)
def test_settings_out_of_range_are_refused(option: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PairDataModule, "data")
    parser.add_class_arguments(LitDifferenceCLIP, "model")
    with pytest.raises(ArgumentError, match=option.partition("=")[0]):
        parser.parse_args([f"--{option}", "--model.clip.name=ViT-B-32", "--model.trainable=[text]"])
