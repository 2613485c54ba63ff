"""Evaluation in real runs of the Trainer."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from pcclip.callbacks import Evaluation, ResultsTable
from pcclip.data.picture_files import is_own_png
from pcclip.results import read_results
from pcclip.tasks import DifferenceTexts, LinearProbe
from tests.helpers.world import TinyModule, ranking, shot
from tests.tasks.test_shards import embedded_shards

Make = Callable[..., Trainer]
SPEARMAN = "attribute_ranking/world/brightness/spearman"
TOP1 = "zero_shot/colours/top1"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where runs without a logger write their pictures


def evaluation(world: Path, **settings: Any) -> Evaluation:
    return Evaluation([ranking(world), shot(world)], **{"resamples": 50} | settings)


def points(folder: Path, name: str, kind: str = "Scalars") -> list[Any]:
    """Points of a scalar, or images, in TensorBoard."""
    events = EventAccumulator(str(folder / "logs" / "run"), size_guidance={"images": 0})
    events.Reload()
    return list(getattr(events, kind)(name))


def test_fit_logs_saves_and_tabulates(world: Path, tmp_path: Path, make_trainer: Make) -> None:
    file = tmp_path / "results.json"
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", monitor=SPEARMAN, mode="max")
    callbacks = [ResultsTable(str(file), alphas=[0.5], report=None), evaluation(world), checkpoint]
    trainer = make_trainer(callbacks, enable_checkpointing=True)
    trainer.fit(TinyModule())

    assert checkpoint.best_model_score is not None
    assert float(trainer.callback_metrics[TOP1]) >= 0
    assert float(trainer.callback_metrics["summary/brightness_forced_choice"]) >= 0
    spearman = points(tmp_path, f"detail/{SPEARMAN}")
    assert [event.step for event in spearman] == [0, 3, 7]
    now, base = (points(tmp_path, f"{group}/brightness_forced_choice") for group in ("summary", "detail/base"))
    assert [event.step for event in now] == [event.step for event in base] == [0, 3, 7]
    assert {event.value for event in base} == {now[0].value}
    assert len(points(tmp_path, "custom_scalars__config__", "Tensors")) == 1
    ranked = points(tmp_path, "ranked/world/brightness", "Images")
    assert [event.step for event in ranked] == [0, 3, 7]
    assert ranked[1].height == 2 * ranked[0].height  # before training, and now
    picture = tmp_path / "logs" / "run" / "ranked_world_brightness.png"
    assert is_own_png(str(picture))
    assert Image.open(picture).width > 8 * 100

    models = read_results(file)
    assert {model: {row.alpha for row in rows} for model, rows in models.items()} == {
        "base": {0}, "finetuned": {1}, "ensembled 0.5": {0.5},
    }  # fmt: skip
    assert len({frozenset(row.key for row in rows) for rows in models.values()}) == 1
    by_model = {model: {row.tag: row for row in rows} for model, rows in models.items()}
    assert by_model["base"][SPEARMAN].value == pytest.approx(spearman[0].value, abs=1e-6)
    assert by_model["finetuned"][SPEARMAN].value == pytest.approx(spearman[-1].value, abs=1e-6)
    assert by_model["base"][SPEARMAN].n == 22  # one value is unknown
    assert all(row.low - 1e-6 <= row.value <= row.high + 1e-6 for rows in models.values() for row in rows)


def test_frozen_images_are_encoded_once(world: Path, make_trainer: Make) -> None:
    module = TinyModule()
    make_trainer([evaluation(world)], epochs=3).fit(module)
    assert module.model.encoded == 23 + 15 + 3 * 4 * 2  # each set once, and the training images

    trained = TinyModule(frozen=False)
    make_trainer([evaluation(world)], epochs=3, logger=False).fit(trained)
    assert trained.model.encoded == 4 * (23 + 15) + 3 * 4 * 2


def test_the_tower_is_hashed_once_for_each_evaluation(
    world: Path, tmp_path: Path, make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    module = TinyModule()
    own: Any = type(module.model).image_fingerprint

    def counted(model: Any) -> str:
        hashed.append(own.fget(model))
        return hashed[-1]

    monkeypatch.setattr(type(module.model), "image_fingerprint", property(counted))
    trainer = make_trainer([evaluation(world), ResultsTable(str(tmp_path / "results.json"), report=None)], logger=False)
    trainer.fit(module)
    assert len(hashed) == 6  # before training and its pictures, after each of two epochs, the table and its pictures
    trainer.test(module, verbose=False)
    assert len(hashed) == 7
    assert len(set(hashed)) == 1


class Shift(Callback):
    """Changes the frozen image tower in a way that torch's version counters do not see."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.model.visual.weight.data += 0.5


def test_a_frozen_tower_that_changes_all_the_same_is_noticed(world: Path, make_trainer: Make) -> None:
    module = TinyModule()
    make_trainer([evaluation(world), Shift()]).fit(module)
    assert module.model.encoded == 3 * (23 + 15) + 2 * 4 * 2


def test_evaluated_when_the_trainer_validates(world: Path, make_trainer: Make) -> None:
    module = TinyModule(frozen=False)
    attributes = Evaluation([ranking(world)], resamples=5)
    classes = Evaluation([shot(world)], resamples=5, every_n_epochs=3)  # its own, before the Trainer's
    make_trainer([attributes, classes], epochs=4, check_val_every_n_epoch=2).fit(module)
    assert module.model.encoded == 3 * 23 + 2 * 15 + 4 * 4 * 2  # before, and after epochs 2 and 4; before, and after 3


def test_callbacks_may_monitor_what_is_not_evaluated_each_epoch(
    world: Path, tmp_path: Path, make_trainer: Make
) -> None:
    evaluated = Evaluation([shot(world)], resamples=5, every_n_epochs=3)
    best = ModelCheckpoint(tmp_path / "best", monitor=TOP1, mode="max", save_top_k=-1, save_last=True)
    stop = EarlyStopping(TOP1, mode="max", patience=9)
    make_trainer([evaluated, best, stop], epochs=4, enable_checkpointing=True).fit(TinyModule())
    assert len([*(tmp_path / "best").glob("epoch*.ckpt")]) == 4
    assert len(points(tmp_path, f"detail/{TOP1}")) == 2  # before training, and after the third epoch
    again = make_trainer([Evaluation([shot(world)], resamples=5, every_n_epochs=3), stop], epochs=5)
    again.fit(TinyModule(), ckpt_path=tmp_path / "best" / "last.ckpt")
    assert TOP1 in again.callback_metrics
    now, base = (points(tmp_path, f"{group}/colours_top1") for group in ("summary", "detail/base"))
    assert len(base) == 3  # the resumed run still knows the base model's
    assert {event.value for event in base} == {now[0].value}


def test_callbacks_may_monitor_between_evaluations_and_after_resuming_within_an_epoch(
    world: Path, tmp_path: Path, make_trainer: Make
) -> None:
    module: Any = TinyModule()
    module.val_dataloader, module.validation_step = module.test_dataloader, module.test_step

    def run(epochs: int, checkpoint: Path | None) -> Trainer:
        stop = EarlyStopping(TOP1, mode="max", patience=99)
        steps = ModelCheckpoint(tmp_path / "steps", every_n_train_steps=1, save_top_k=-1, filename="{step}")
        callbacks = [Evaluation([shot(world)], resamples=10), stop, steps]
        trainer = make_trainer(callbacks, epochs, val_check_interval=2, enable_checkpointing=True)
        trainer.fit(module, ckpt_path=checkpoint)
        return trainer

    assert TOP1 in run(1, None).callback_metrics
    assert run(2, tmp_path / "steps" / "step=1.ckpt").global_step == 8


def test_costly_tasks_are_not_for_each_epoch(world: Path, tmp_path: Path, make_trainer: Make) -> None:
    classes = str(world / "classes")
    tasks = [LinearProbe(name="probes", images=classes, test=classes), ranking(world, ceiling=True, examples=[2])]
    make_trainer([Evaluation(tasks, resamples=5)]).fit(TinyModule())
    assert len(points(tmp_path, f"detail/{SPEARMAN}")) == 3
    ranked = [f"attribute_ranking/world/brightness/{name}_spearman" for name in ("ceiling", "example")]
    for name in ("linear_probe/probes/top1_full", ranked[0], f"{ranked[1]}_2"):
        assert len(points(tmp_path, f"detail/{name}")) == 1


def test_evaluation_leaves_training_alone(world: Path, make_trainer: Make) -> None:
    states = []
    for callbacks in ([], [evaluation(world)]):
        torch.manual_seed(0)
        module = TinyModule(frozen=False)
        module.model.visual.eval()
        make_trainer(callbacks).fit(module)
        states.append((module.state_dict(), torch.rand(1), [part.training for part in module.modules()]))
    for key, value in states[0][0].items():
        torch.testing.assert_close(states[1][0][key], value, rtol=0, atol=0)
    assert states[0][1:] == states[1][1:]


def test_a_missing_file_ends_the_run_before_it_begins(world: Path, make_trainer: Make) -> None:
    module = TinyModule()
    with pytest.raises(FileNotFoundError, match=r"^nowhere: "):
        make_trainer([Evaluation([shot(world, images="nowhere")])]).fit(module)
    assert module.model.encoded == 0


def test_a_resumed_run_is_checked_against_its_shards(tmp_path: Path, make_trainer: Make) -> None:
    def run(folder: Path, **options: Any) -> Trainer:
        trainer = make_trainer([Evaluation([DifferenceTexts(name="held", shards=str(folder))], resamples=5)])
        trainer.fit(TinyModule(), **options)
        return trainer

    model = TinyModule().model
    first = embedded_shards(tmp_path / "first", model)
    with torch.no_grad():
        model.visual.weight += 1
    other = embedded_shards(tmp_path / "other", model)
    trainer = run(first)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    state["epoch"], state["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] = 1, 1
    torch.save(state, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="made by another image tower"):
        run(other, ckpt_path=tmp_path / "last.ckpt")


def test_sample_texts_are_shown_with_their_scores(tmp_path: Path, make_trainer: Make) -> None:
    module = TinyModule()
    shards = embedded_shards(tmp_path / "shards", module.model)
    make_trainer([Evaluation([DifferenceTexts(name="held", shards=str(shards))], resamples=5)]).fit(module)
    texts = points(tmp_path, "samples/text_summary", "Tensors")
    assert [event.step for event in texts] == [0, 3, 7]
    first, *_, last = (event.tensor_proto.string_val[0].decode().splitlines()[2:] for event in texts)
    assert len(first) == len(last) > 0
    for before, after in zip(first, last, strict=True):
        (*texts_then, _, scored), (*texts_now, base, _) = (line.strip("|").split("|") for line in (before, after))
        assert texts_then == texts_now
        assert base == scored


def test_a_model_that_diverges_in_training_ends_it(world: Path, tmp_path: Path, make_trainer: Make) -> None:
    module: Any = TinyModule()
    module.configure_optimizers = lambda: torch.optim.SGD(module.model.words.parameters(), lr=torch.inf)
    table = ResultsTable(str(tmp_path / "results.json"))
    with pytest.raises(ValueError, match=r"zero_shot colours: .* 3 of 3"):
        make_trainer([Evaluation([shot(world)], resamples=5), table]).fit(module)
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("stage", ["fit", "test"])
def test_fast_dev_run_writes_nothing(world: Path, tmp_path: Path, stage: str) -> None:
    callbacks = [
        evaluation(world, cache_dir=str(tmp_path / "cache")),
        ResultsTable(str(tmp_path / "results.json"), alphas=[0.5]),
    ]
    trainer = Trainer(
        accelerator="cpu", fast_dev_run=True, callbacks=callbacks, default_root_dir=tmp_path, enable_progress_bar=False
    )
    getattr(trainer, stage)(TinyModule())
    assert list(tmp_path.iterdir()) == []


def test_undefined_numbers_are_nan_in_tensorboard(world: Path, tmp_path: Path, make_trainer: Make) -> None:
    module: Any = TinyModule()
    module.configure_optimizers = lambda: torch.optim.SGD(module.model.words.parameters(), lr=0.0)
    torch.nn.init.zeros_(module.model.words.weight)  # every text says the same, so that all scores are equal
    make_trainer([evaluation(world)], epochs=1).fit(module)
    values = [event.value for event in points(tmp_path, f"detail/{SPEARMAN}")]
    assert len(values) == 2
    assert all(map(math.isnan, values))
