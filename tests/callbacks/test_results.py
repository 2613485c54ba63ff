"""The table of results after real runs of the Trainer."""

import html
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from pcclip.callbacks import Evaluation, ResultsTable
from pcclip.results import read_results
from pcclip.tasks import DifferenceTexts, LinearProbe
from tests.helpers.world import TinyModule, ranking, shot
from tests.tasks.test_shards import write_shards

Make = Callable[..., Trainer]


def table(file: Path, **settings: Any) -> ResultsTable:
    """The table without a page, whose charts take longer to draw than a run to train."""
    return ResultsTable(str(file), report=None, **settings)


def evaluation(world: Path, **settings: Any) -> Evaluation:
    return Evaluation([ranking(world), shot(world)], **{"resamples": 20} | settings)


def test_last_values_are_the_finetuned_models(world: Path, tmp_path: Path, make_trainer: Make) -> None:
    callbacks = [evaluation(world, every_n_epochs=3), table(tmp_path / "results.json")]
    trainer = make_trainer(callbacks, epochs=1)
    trainer.fit(TinyModule(frozen=False))
    models = {
        model: {row.tag: row.value for row in rows} for model, rows in read_results(tmp_path / "results.json").items()
    }
    last = {name: float(trainer.callback_metrics[name]) for name in models["finetuned"]}
    assert last == pytest.approx(models["finetuned"], nan_ok=True)
    assert last != pytest.approx(models["base"], nan_ok=True)


def test_resumed_run_keeps_its_base(world: Path, tmp_path: Path, make_trainer: Make) -> None:
    def run(name: str, epochs: int, resume: str | None = None) -> Any:
        checkpoint = ModelCheckpoint(tmp_path / name, save_last=True, save_top_k=0)
        callbacks = [evaluation(world), table(tmp_path / f"{name}.json", alphas=[0.3]), checkpoint]
        trainer = make_trainer(callbacks, epochs=epochs, enable_checkpointing=True)
        trainer.fit(TinyModule(), ckpt_path=resume)
        return json.loads((tmp_path / f"{name}.json").read_text())

    whole = run("whole", epochs=3)
    run("start", epochs=1)
    assert run("resumed", epochs=3, resume=str(tmp_path / "start" / "last.ckpt")) == whole

    saved = torch.load(tmp_path / "start" / "last.ckpt", weights_only=True)["callbacks"]["ResultsTable"]
    assert set(saved["base_state"]) == {"model.words.weight", "model.places.weight"}  # the image tower is frozen


def test_checkpoint_without_base_is_reported(world: Path, tmp_path: Path, make_trainer: Make) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "start", save_last=True, save_top_k=0)
    make_trainer([checkpoint], epochs=1, enable_checkpointing=True).fit(TinyModule())
    callbacks = [evaluation(world), table(tmp_path / "results.json", alphas=[0.3])]
    with pytest.warns(UserWarning, match='there is no "base" column'):
        make_trainer(callbacks).fit(TinyModule(), ckpt_path=tmp_path / "start" / "last.ckpt")
    assert list(read_results(tmp_path / "results.json")) == ["finetuned"]


def test_test_adds_a_column_or_replaces_it(world: Path, tmp_path: Path, make_trainer: Make) -> None:
    checkpoint = ModelCheckpoint(tmp_path, save_last=True, save_top_k=0)
    make_trainer([checkpoint], epochs=1, enable_checkpointing=True).fit(TinyModule())

    def test(ckpt_path: Path | None) -> dict[str, Any]:
        callbacks = [evaluation(world), table(tmp_path / "test.json", alphas=[0.5], finetuned="tuned")]
        trainer = make_trainer(callbacks)
        metrics = trainer.test(TinyModule(), ckpt_path=ckpt_path, verbose=False)
        models = read_results(tmp_path / "test.json")
        for row in models["tuned" if ckpt_path else "base"]:
            assert metrics[0][f"detail/{row.tag}"] == pytest.approx(row.value, abs=1e-6)
            assert not math.isnan(row.low)
        return dict(models)

    base = test(None)
    assert list(base) == ["base"]
    both = test(tmp_path / "last.ckpt")
    assert list(both) == ["base", "tuned", "ensembled 0.5"]  # with the configuration's; the checkpoint knows no base
    assert both["base"] == base["base"]
    numbers = [[row.value for row in rows] for rows in both.values()]
    assert numbers[0] != numbers[1] != numbers[2] != numbers[0]
    assert test(tmp_path / "last.ckpt") == both


@pytest.mark.parametrize("frozen", [True, False])
def test_test_measures_ensembles_of_checkpoint_and_configuration(
    world: Path, tmp_path: Path, make_trainer: Make, frozen: bool
) -> None:
    classes = str(world / "classes")

    def callbacks(name: str) -> list[Any]:
        probe = LinearProbe(name="world", images=classes, test=classes, shots=[1])
        measured = Evaluation([ranking(world), shot(world), probe], resamples=5, cache_dir=str(tmp_path / "cache"))
        return [table(tmp_path / f"{name}.json", alphas=[0.5]), measured]

    trainer = make_trainer(callbacks("fit"))
    trainer.fit(TinyModule(frozen=frozen))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    encoded = []
    for checkpoint in (None, str(tmp_path / "last.ckpt"), str(tmp_path / "last.ckpt")):
        module = TinyModule(frozen=True)  # as in conf/eval, whatever was trained
        make_trainer(callbacks("test")).test(module, ckpt_path=checkpoint, verbose=False)
        encoded.append(module.model.encoded)
    fitted, tested = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("fit", "test"))
    assert [row["model"] for row in tested] == [row["model"] for row in fitted]
    for one, two in zip(fitted, tested, strict=True):
        assert one["value"] == pytest.approx(two["value"], abs=1e-6), one
    # 38 different files; the checkpoint and its ensemble have image towers of their own if it trained
    assert encoded == ([0, 0, 0] if frozen else [38, 76, 0])


def test_report_has_samples_of_both_models_and_pictures_from_before(
    world: Path, tmp_path: Path, make_trainer: Make
) -> None:
    shards = DifferenceTexts(name="shards", shards=str(write_shards(tmp_path / "shards")))

    def fit(name: str, epochs: int, resume: Path | None = None) -> Any:
        page = None if name == "start" else "report.html"
        callbacks = [
            Evaluation([ranking(world), shards], resamples=5),
            ResultsTable(str(tmp_path / name / "results.json"), alphas=[0.5], report=page),
        ]
        trainer = make_trainer(callbacks, epochs, logger=TensorBoardLogger(tmp_path / name))
        trainer.fit(TinyModule(), ckpt_path=resume)
        trainer.save_checkpoint(tmp_path / name / "last.ckpt")
        return json.loads((tmp_path / name / "results.samples.json").read_text())

    samples = fit("whole", 2)
    fit("start", 1)
    assert fit("resumed", 2, tmp_path / "start" / "last.ckpt") == samples
    pages = [(tmp_path / name / "report.html").read_text() for name in ("whole", "resumed")]
    for part in ("Sample pairs", "Weight ensembling", "Charts"):
        assert all(part in page for page in pages)
    assert "Pictures as ranked" in pages[0]  # from the logger's folder, which is another one in the resumed run
    assert samples
    for sample in samples:
        assert set(sample["scores"]) == {"base", "finetuned"}
        assert sample["scores"]["base"] != sample["scores"]["finetuned"]
        assert all(html.escape(sample["text"], quote=False) in page for page in pages)


def test_table_without_evaluation_is_refused(tmp_path: Path, make_trainer: Make) -> None:
    with pytest.raises(ValueError, match=r"results.json.*Evaluation"):
        make_trainer([table(tmp_path / "results.json")]).fit(TinyModule())


def idle() -> Any:
    """A module whose training changes nothing."""
    module: Any = TinyModule()
    module.configure_optimizers = lambda: torch.optim.SGD(module.model.words.parameters(), lr=0.0)
    return module


def test_an_undefined_number_is_null_in_rows_and_a_dash_in_tables(
    world: Path, tmp_path: Path, make_trainer: Make
) -> None:
    module = idle()
    torch.nn.init.zeros_(module.model.words.weight)  # every text says the same, so that all scores are equal
    file = tmp_path / "results.json"
    evaluated = Evaluation([ranking(world, ceiling=True)], resamples=20)
    make_trainer([evaluated, table(file, alphas=[0.5])], epochs=1).fit(module)
    undefined = ("spearman", "kendall", "share_of_ceiling")
    rows = [row for row in json.loads(file.read_text()) if row["metric"] in undefined]
    assert {row["model"] for row in rows} == {"base", "finetuned", "ensembled 0.5"}
    assert all(row["value"] is row["low"] is row["high"] is None for row in rows)
    lines = file.with_suffix(".md").read_text().splitlines()
    for metric in undefined:
        (line,) = (line for line in lines if f"| {metric} " in line)
        assert [cell.strip() for cell in line.split("|")[4:7]] == ["-", "-", "-"]
    assert all(math.isnan(row.value) for row in read_results(file)["base"] if row.metric in undefined)


@pytest.mark.parametrize("trains", [False, True])
def test_training_that_changes_nothing_is_reported(
    world: Path, tmp_path: Path, make_trainer: Make, trains: bool
) -> None:
    callbacks = [evaluation(world), table(tmp_path / "results.json", base="before", finetuned="after")]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        make_trainer(callbacks, epochs=1).fit(TinyModule() if trains else idle())
    equal = [str(warning.message) for warning in found if "results.json" in str(warning.message)]
    assert len(equal) == (0 if trains else 1)
    assert all(part in message for message in equal for part in ("before", "after", "optimizer.init_args.lr"))
