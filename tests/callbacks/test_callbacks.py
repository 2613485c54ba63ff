"""The evaluation callbacks in real runs of the Trainer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from pcclip.callbacks.attribute_ranking import AttributeRanking, AttributeSet
from pcclip.callbacks.embeddings import EmbeddingCache
from pcclip.callbacks.results import ResultsTable
from pcclip.callbacks.zero_shot import ZeroShot, ZeroShotSet
from pcclip.data.picture_files import is_own_png
from pcclip.metrics.tables import read_results


def attribute_set(world: Path, **changes: Any) -> AttributeSet:
    settings: dict[str, Any] = {
        "images": world / "images",
        "table": world / "table.csv",
        "texts": world / "texts.yaml",
    } | changes
    plain: dict[str, Any] = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    return AttributeSet(**plain)


def zero_shot_set(world: Path, **changes: Any) -> ZeroShotSet:
    return ZeroShotSet(**({"images": str(world / "classes"), "templates": ["a photo of a {} square"]} | changes))


def evaluations(world: Path) -> list[AttributeRanking | ZeroShot]:
    return [
        AttributeRanking({"world": attribute_set(world)}, resamples=50),
        ZeroShot({"colours": zero_shot_set(world)}, resamples=50),
    ]


def test_fit_logs_saves_and_tabulates(
    world: Path, tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    module = make_module()
    file = tmp_path / "results.json"
    checkpoint = ModelCheckpoint(
        tmp_path / "checkpoints", monitor="attribute_ranking/world/brightness/spearman", mode="max"
    )
    table = ResultsTable(str(file), alphas=[0.5])
    trainer = make_trainer([table, *evaluations(world), checkpoint], enable_checkpointing=True)
    trainer.fit(module)

    assert checkpoint.best_model_score is not None
    assert float(trainer.callback_metrics["zero_shot/colours/top1"]) >= 0

    events = EventAccumulator(str(tmp_path / "logs" / "run"), size_guidance={"images": 0})
    events.Reload()
    spearman = events.Scalars("attribute_ranking/world/brightness/spearman")
    assert [event.step for event in spearman] == [0, 3, 7]
    assert [event.step for event in events.Images("ranked/world/brightness")] == [0, 3, 7]
    strip = Image.open(tmp_path / "logs" / "run" / "ranked_world_brightness.png")
    assert is_own_png(str(tmp_path / "logs" / "run" / "ranked_world_brightness.png"))
    assert strip.width > 12 * 100

    rows = json.loads(file.read_text())
    assert {row["model"] for row in rows} == {"base", "finetuned", "ensembled 0.5"}
    assert all(set(row) == {"model", "task", "subset", "metric", "value", "n", "low", "high"} for row in rows)
    by_model = {
        model: {(row["task"], row["subset"], row["metric"]): row for row in rows if row["model"] == model}
        for model in ("base", "finetuned", "ensembled 0.5")
    }
    assert len({frozenset(items) for items in by_model.values()}) == 1
    key = ("attribute_ranking", "world/brightness", "spearman")
    assert by_model["base"][key]["value"] == pytest.approx(spearman[0].value, abs=1e-6)
    assert by_model["finetuned"][key]["value"] == pytest.approx(spearman[-1].value, abs=1e-6)
    assert by_model["base"][key]["n"] == 22  # one value is unknown
    for row in rows:
        assert row["low"] <= row["value"] + 1e-6
        assert row["value"] - 1e-6 <= row["high"]
    assert "| attribute_ranking | world/brightness | spearman" in file.with_suffix(".md").read_text()


def test_frozen_images_are_encoded_once(
    world: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    module = make_module()
    make_trainer(evaluations(world), max_steps=0).fit(module)
    module.model.encoded = 0
    make_trainer(evaluations(world), epochs=3).fit(module)
    assert module.model.encoded == 23 + 15 + 3 * 4 * 2  # each set once, and the training images

    trained = make_module(frozen=False)
    make_trainer(evaluations(world), epochs=3).fit(trained)
    assert trained.model.encoded == 4 * (23 + 15) + 3 * 4 * 2


def test_the_tower_is_hashed_once_for_each_evaluation(
    world: Path, tmp_path: Path, make_module: Any, make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    module = make_module()
    own = type(module.model).image_fingerprint.fget

    def counted(model: Any) -> str:
        hashed.append(own(model))
        return hashed[-1]

    monkeypatch.setattr(type(module.model), "image_fingerprint", property(counted))
    trainer = make_trainer([*evaluations(world), ResultsTable(str(tmp_path / "results.json"))])
    trainer.fit(module)
    assert len(hashed) == 4  # before training, after each of two epochs, and for the table
    trainer.test(module, verbose=False)
    assert len(hashed) == 5
    assert len(set(hashed)) == 1


class Shift(Callback):
    """Changes the frozen image tower in a way that torch's version counters do not see."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.model.visual.weight.data += 0.5


def test_a_frozen_tower_that_changes_all_the_same_is_noticed(
    world: Path, make_module: Any, make_trainer: Callable[..., Trainer]
) -> None:
    module = make_module()
    make_trainer([*evaluations(world), Shift()]).fit(module)
    assert module.model.encoded == 3 * (23 + 15) + 2 * 4 * 2


def test_pictures_after_the_ensembles_are_of_the_finetuned_tower(
    world: Path, tmp_path: Path, make_module: Any, make_trainer: Callable[..., Trainer]
) -> None:
    module = make_module(frozen=False)
    make_trainer([ResultsTable(str(tmp_path / "results.json"), alphas=[0.5]), *evaluations(world)]).fit(module)
    assert EmbeddingCache.of(module)._made_by == module.model.image_fingerprint


def test_evaluated_when_the_trainer_validates(
    world: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    ranking, shot = evaluations(world)
    shot.every_n_epochs = 3  # its own, before the Trainer's
    module = make_module(frozen=False)
    make_trainer([ranking, shot], epochs=4, check_val_every_n_epoch=2).fit(module)
    assert module.model.encoded == 3 * 23 + 2 * 15 + 4 * 4 * 2  # before, and after epochs 2 and 4; before, and after 3


def test_callbacks_may_monitor_what_is_not_evaluated_each_epoch(
    world: Path, tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    name = "zero_shot/colours/top1"
    shot = ZeroShot({"colours": zero_shot_set(world)}, resamples=5, every_n_epochs=3)
    best = ModelCheckpoint(tmp_path / "best", monitor=name, mode="max", save_top_k=-1, save_last=True)
    stop = EarlyStopping(name, mode="max", patience=9)
    make_trainer([shot, best, stop], epochs=4, enable_checkpointing=True).fit(make_module())
    assert len([*(tmp_path / "best").glob("epoch*.ckpt")]) == 4
    events = EventAccumulator(str(tmp_path / "logs" / "run"))
    events.Reload()
    assert len(events.Scalars(name)) == 2  # before training, and after the third epoch
    shot.rows = []  # as in another process
    again = make_trainer([shot, stop], epochs=5)
    again.fit(make_module(), ckpt_path=tmp_path / "best" / "last.ckpt")
    assert name in again.callback_metrics


def test_last_values_are_the_finetuned_models(
    world: Path, tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    measured = evaluations(world)
    for evaluation in measured:
        evaluation.every_n_epochs = 3
    trainer = make_trainer([*measured, ResultsTable(str(tmp_path / "results.json"))], epochs=1)
    trainer.fit(make_module(frozen=False))
    models = {
        model: {f"{row.task}/{row.subset}/{row.metric}": row.value for row in rows}
        for model, rows in read_results(tmp_path / "results.json").items()
    }
    last = {name: float(trainer.callback_metrics[name]) for name in models["finetuned"]}
    assert last == pytest.approx(models["finetuned"], nan_ok=True)
    assert last != pytest.approx(models["base"], nan_ok=True)


def test_evaluation_leaves_training_alone(
    world: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    states = []
    for callbacks in ([], evaluations(world)):
        torch.manual_seed(0)
        module = make_module(frozen=False)
        module.model.visual.eval()
        make_trainer(callbacks).fit(module)
        states.append((module.state_dict(), torch.rand(1), [part.training for part in module.modules()]))
    for key, value in states[0][0].items():
        torch.testing.assert_close(states[1][0][key], value, rtol=0, atol=0)
    assert states[0][1:] == states[1][1:]


def test_resumed_run_keeps_its_base(
    world: Path, tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    def run(name: str, epochs: int, resume: str | None = None) -> list[dict[str, Any]]:
        checkpoint = ModelCheckpoint(tmp_path / name, save_last=True, save_top_k=0)
        table = ResultsTable(str(tmp_path / f"{name}.json"), alphas=[0.3])
        trainer = make_trainer([*evaluations(world), table, checkpoint], epochs=epochs, enable_checkpointing=True)
        trainer.fit(make_module(), ckpt_path=resume)
        rows: list[dict[str, Any]] = json.loads((tmp_path / f"{name}.json").read_text())
        return rows

    whole = run("whole", epochs=3)
    run("start", epochs=1)
    resumed = run("resumed", epochs=3, resume=str(tmp_path / "start" / "last.ckpt"))
    assert resumed == whole

    saved = torch.load(tmp_path / "start" / "last.ckpt", weights_only=True)["callbacks"]["ResultsTable"]
    assert set(saved["base_state"]) == {"model.words.weight", "model.places.weight"}  # the image tower is frozen


def test_checkpoint_without_base_is_reported(
    world: Path, tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "start", save_last=True, save_top_k=0)
    make_trainer([checkpoint], epochs=1, enable_checkpointing=True).fit(make_module())
    table = ResultsTable(str(tmp_path / "results.json"), alphas=[0.3])
    with pytest.warns(UserWarning, match='there is no "base" column'):
        make_trainer([*evaluations(world), table]).fit(make_module(), ckpt_path=tmp_path / "start" / "last.ckpt")
    assert {row["model"] for row in json.loads((tmp_path / "results.json").read_text())} == {"finetuned"}


def test_test_adds_a_column_or_replaces_it(
    world: Path, tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    checkpoint = ModelCheckpoint(tmp_path, save_last=True, save_top_k=0)
    make_trainer([checkpoint], epochs=1, enable_checkpointing=True).fit(make_module())

    def test(ckpt_path: Path | None) -> dict[str, list[dict[str, Any]]]:
        table = ResultsTable(str(tmp_path / "test.json"), alphas=[0.5], finetuned="tuned")
        trainer = make_trainer([*evaluations(world), table])
        metrics = trainer.test(make_module(), ckpt_path=ckpt_path, verbose=False)
        rows = json.loads((tmp_path / "test.json").read_text())
        by_model = {
            name: [row for row in rows if row["model"] == name] for name in dict.fromkeys(r["model"] for r in rows)
        }
        for row in by_model["tuned" if ckpt_path else "base"]:
            assert metrics[0][f"{row['task']}/{row['subset']}/{row['metric']}"] == pytest.approx(row["value"], abs=1e-6)
            assert not math.isnan(row["low"])
        return by_model

    base = test(None)
    assert list(base) == ["base"]
    both = test(tmp_path / "last.ckpt")
    assert list(both) == ["base", "tuned", "ensembled 0.5"]  # with the configuration's; the checkpoint knows no base
    assert both["base"] == base["base"] != both["tuned"]
    assert both["ensembled 0.5"] not in (both["base"], both["tuned"])
    assert test(tmp_path / "last.ckpt") == both


def test_class_level_and_filters(
    world: Path, tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    table = tmp_path / "classes.jsonl"
    rows = [
        {"name": "red", "brightness": 1, "known": True},
        {"name": "green", "brightness": 2.5, "known": True},
        {"name": "blue", "brightness": None, "known": False},
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ranking = AttributeRanking(
        {
            "classes": attribute_set(world, images=world / "classes", table=table, key="name", level="class"),
            "half": attribute_set(world, where={"split": "a"}),
            "few": attribute_set(world, pair_images=7),
        },
        resamples=20,
    )
    shot = ZeroShot({"known": zero_shot_set(world, table=str(table), where={"known": "true"})}, resamples=20)
    make_trainer([ranking, shot], epochs=1).fit(make_module())
    counts = {(row.subset, row.metric): row.n for row in ranking.rows}
    assert counts["classes/brightness", "spearman"] == 2
    assert counts["classes/brightness", "forced_choice"] == 1
    assert counts["half/brightness", "spearman"] == 11
    assert counts["few/brightness", "spearman"] == 22
    assert counts["few/brightness", "forced_choice"] <= 21
    assert {row.metric: row.n for row in shot.rows}["top1"] == 10


def test_damaged_images_are_left_out_and_reported(
    tmp_path: Path, world: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    import shutil

    copy = tmp_path / "world"
    shutil.copytree(world, copy)
    (copy / "images" / "003.png").write_bytes((world / "images" / "003.png").read_bytes()[:40])
    ranking = AttributeRanking({"world": attribute_set(copy)}, resamples=20)
    with pytest.warns(UserWarning, match=r"world: 1 of 23 images are damaged and left out: 003\.png"):
        make_trainer([ranking], epochs=1).fit(make_module())
    assert {row.metric: row.n for row in ranking.rows}["spearman"] == 21


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "nowhere"}, "nowhere: evaluation images not found"),
        ({"attributes": ["size"]}, r"no texts for \['size'\]"),
        ({"where": {"split": "c"}}, "no row where"),
        ({"where": {"splt": "a"}}, 'no column "splt"'),
        ({"key": "split"}, "appears twice"),
        ({"level": "class"}, "unknown classes"),
    ],
)
def test_attribute_set_errors_come_before_training(
    world: Path,
    make_module: Callable[..., Any],
    make_trainer: Callable[..., Trainer],
    changes: dict[str, Any],
    message: str,
) -> None:
    module = make_module()
    ranking = AttributeRanking({"world": attribute_set(world, **changes)})
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make_trainer([ranking]).fit(module)
    assert module.model.encoded == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["red", "puce"]}, r"unknown classes \['puce'\]"),
        ({"classes": ["red"]}, "at least two classes"),
        ({"templates": ["a photo"]}, "no {} for the class name"),
        ({"classes": "nowhere.txt"}, r"nowhere\.txt"),
        ({"where": {"split": "a"}}, "filters the rows of a `table`"),
    ],
)
def test_zero_shot_set_errors_come_before_training(
    world: Path,
    make_module: Callable[..., Any],
    make_trainer: Callable[..., Trainer],
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make_trainer([ZeroShot({"colours": zero_shot_set(world, **changes)})]).fit(make_module())


def test_table_without_evaluations_is_refused(
    tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    with pytest.raises(ValueError, match="no evaluation callback"):
        make_trainer([ResultsTable(str(tmp_path / "results.json"))]).fit(make_module())


YAML = """
callbacks:
- class_path: pcclip.callbacks.AttributeRanking
  init_args:
    sets:
      world:
        images: {world}/images
        table: {world}/table.csv
        texts: {world}/texts.yaml
        attributes: [brightness]
        min_gap: {{brightness: 0.1}}
        where: {{split: a}}
- class_path: pcclip.callbacks.ZeroShot
  init_args:
    every_n_epochs: 2
    sets:
      colours: {{images: "{world}/classes", templates: ["a photo of a {{}}"], classes: [red, blue]}}
- class_path: pcclip.callbacks.DifferenceTexts
  init_args: {{sets: {{held: shards/val}}}}
- class_path: pcclip.callbacks.Retrieval
  init_args: {{sets: {{held: shards/val}}}}
- class_path: pcclip.callbacks.ResultsTable
  init_args: {{file: results.json, alphas: [0.5, 0.7]}}
"""


def test_configured_by_yaml(world: Path) -> None:
    parser = ArgumentParser()
    parser.add_argument("--callbacks", type=list[Callback])
    made = parser.instantiate_classes(parser.parse_string(YAML.format(world=world))).callbacks
    assert [type(callback).__name__ for callback in made] == [
        "AttributeRanking", "ZeroShot", "DifferenceTexts", "Retrieval", "ResultsTable",
    ]  # fmt: skip
    ranking, shot, *_, table = made
    assert ranking.sets == {
        "world": attribute_set(world, attributes=["brightness"], min_gap={"brightness": 0.1}, where={"split": "a"})
    }
    ranking.prepare()
    shot.prepare()
    assert shot.every_n_epochs == 2
    assert table.alphas == [0.5, 0.7]


def test_min_gap_of_one_attribute(
    world: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    counts = []
    for gap in (0.0, {"brightness": 0.3}):
        ranking = AttributeRanking({"world": attribute_set(world, min_gap=gap)}, resamples=5)
        make_trainer([ranking]).test(make_module(), verbose=False)
        counts.append({row.metric: row.n for row in ranking.rows}["forced_choice"])
    assert counts[0] == 231
    assert 0 < counts[1] < 231


def test_callbacks_may_monitor_between_evaluations_and_after_resuming_within_an_epoch(
    world: Path, tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    module = make_module()
    module.val_dataloader, module.validation_step = module.test_dataloader, module.test_step
    name = "zero_shot/colours/top1"

    def run(epochs: int, checkpoint: Path | None) -> Trainer:
        colours = ZeroShotSet(str(world / "classes"), ["a photo of a {} square"])
        stop = EarlyStopping(name, mode="max", patience=99)
        steps = ModelCheckpoint(tmp_path / "steps", every_n_train_steps=1, save_top_k=-1, filename="{step}")
        callbacks: list[Callback] = [ZeroShot({"colours": colours}, resamples=10), stop, steps]
        trainer = make_trainer(callbacks, epochs, val_check_interval=2, enable_checkpointing=True)
        trainer.fit(module, ckpt_path=checkpoint)
        return trainer

    assert name in run(1, None).callback_metrics
    assert run(2, tmp_path / "steps" / "step=1.ckpt").global_step == 8
