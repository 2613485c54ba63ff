"""Numbers that are undefined, and models whose embeddings are not numbers."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from pcclip.callbacks import (
    AttributeRanking,
    AttributeSet,
    LinearProbe,
    LinearProbeSet,
    ResultsTable,
    ZeroShot,
    ZeroShotSet,
)
from pcclip.callbacks.evaluation import EvaluationCallback, finite_images
from pcclip.metrics.protocol import Result
from pcclip.metrics.tables import read_results, unchanged


def ranking(world: Path, **changes: Any) -> AttributeRanking:
    files = {"images": "images", "table": "table.csv", "texts": "texts.yaml"}
    settings = {key: str(world / name) for key, name in files.items()} | changes
    return AttributeRanking({"world": AttributeSet(**settings)}, resamples=20)


def idle(module: Any) -> Any:
    """The module, whose training changes nothing."""
    module.configure_optimizers = lambda: torch.optim.SGD(module.model.words.parameters(), lr=0.0)
    return module


def test_an_undefined_number_is_null_in_rows_a_dash_in_tables_and_nan_in_tensorboard(
    world: Path, tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    module = idle(make_module())
    torch.nn.init.zeros_(module.model.words.weight)  # every text says the same, so that all scores are equal
    file = tmp_path / "results.json"
    make_trainer([ranking(world, ceiling=True), ResultsTable(str(file), alphas=[0.5])], epochs=1).fit(module)

    undefined = ("spearman", "kendall", "share_of_ceiling")
    rows = [row for row in json.loads(file.read_text()) if row["metric"] in undefined]
    assert {row["model"] for row in rows} == {"base", "finetuned", "ensembled 0.5"}
    assert all(row["value"] is row["low"] is row["high"] is None for row in rows)
    lines = file.with_suffix(".md").read_text().splitlines()
    for metric in undefined:
        (line,) = (line for line in lines if f"| {metric} " in line)
        assert [cell.strip() for cell in line.split("|")[4:7]] == ["-", "-", "-"]
    assert all(math.isnan(row.value) for row in read_results(file)["base"] if row.metric in undefined)
    events = EventAccumulator(str(tmp_path / "logs" / "run"))
    events.Reload()
    values = [event.value for event in events.Scalars("attribute_ranking/world/brightness/spearman")]
    assert len(values) == 2
    assert all(map(math.isnan, values))


def shot(world: Path, **settings: Any) -> ZeroShot:
    sets = {"colours": ZeroShotSet(str(world / "classes"), ["a photo of a {} square"])}
    return ZeroShot(sets, resamples=5, **settings)


@pytest.mark.parametrize("stage", ["fit", "test"])
def test_a_model_without_finite_images_ends_the_evaluation(
    world: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer], stage: str
) -> None:
    classes = str(world / "classes")
    callbacks: dict[str, EvaluationCallback] = {
        "AttributeRanking world.* 23 of 23": ranking(world),
        "ZeroShot colours.* 15 of 15": shot(world),
        "LinearProbe probes.* 15 of 15": LinearProbe({"probes": LinearProbeSet(classes, classes)}),
    }
    for message, callback in callbacks.items():
        module = make_module()
        torch.nn.init.constant_(module.model.visual.weight, torch.nan)
        with pytest.raises(ValueError, match=message):
            getattr(make_trainer([callback]), stage)(module)
        assert callback.rows == []


def test_a_model_that_diverges_in_training_ends_it(
    world: Path, tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    module = make_module()
    module.configure_optimizers = lambda: torch.optim.SGD(module.model.words.parameters(), lr=torch.inf)
    table = ResultsTable(str(tmp_path / "results.json"))
    with pytest.raises(ValueError, match=r"colours.* 3 of 3"):
        make_trainer([shot(world), table]).fit(module)
    assert not (tmp_path / "results.json").exists()


def test_an_image_that_alone_is_not_finite_is_left_out_and_not_kept(
    world: Path, tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    def encode(images: torch.Tensor) -> torch.Tensor:
        embedded = whole(images)
        embedded[images[:, 0, 0, 0] == level] = torch.inf
        return embedded

    with Image.open(world / "images" / "003.png") as picture:
        level = picture.convert("RGB").getpixel((0, 0))[0]  # type: ignore[index]
    callback = ranking(world)
    callback.cache_dir = str(tmp_path / "cache")
    module = make_module()
    whole, module.model.encode_images = module.model.encode_images, encode
    with pytest.warns(UserWarning, match=r"AttributeRanking world.* 1 of 23"):
        make_trainer([callback]).test(module, verbose=False)
    assert {row.metric: row.n for row in callback.rows}["spearman"] == 21  # one value is unknown
    assert not any(math.isnan(row.value) for row in callback.rows)

    again = make_module()
    make_trainer([callback]).test(again, verbose=False)
    assert again.model.encoded == 1  # the others were kept
    assert {row.metric: row.n for row in callback.rows}["spearman"] == 22


def test_rows_of_shards_are_counted_too() -> None:
    embeddings = torch.ones(40, 8)
    embeddings[7] = torch.nan
    with pytest.warns(UserWarning, match=r"Retrieval held.* 1 of 40"):
        finite, kept = finite_images(embeddings, list(range(40)), "Retrieval held")
    assert kept == [*range(7), *range(8, 40)]
    assert finite.isfinite().all()
    embeddings[:3] = torch.nan
    with pytest.raises(ValueError, match=r"Retrieval held.* 4 of 40"):
        finite_images(embeddings, list(range(40)), "Retrieval held")


def test_kept_texts_are_checked_when_they_are_read(
    world: Path, tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    def measured() -> tuple[list[Any], int]:
        callback, module = shot(world, cache_dir=str(tmp_path)), make_module()
        make_trainer([callback]).test(module, verbose=False)
        return callback.rows, module.model.encoded_texts

    whole, encoded = measured()
    assert encoded == 3
    (file,) = tmp_path.glob("texts-*.npz")
    with np.load(file) as stored:
        texts, embeddings = stored["texts"], stored["embeddings"].copy()
    embeddings[1] = np.nan
    np.savez(file, texts=texts, embeddings=embeddings)
    assert measured() == (whole, 1)
    assert measured() == (whole, 0)


@pytest.mark.parametrize("trains", [False, True])
def test_training_that_changes_nothing_is_reported(
    world: Path, tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer], trains: bool
) -> None:
    module = make_module() if trains else idle(make_module())
    table = ResultsTable(str(tmp_path / "results.json"), base="before", finetuned="after")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        make_trainer([ranking(world), table], epochs=1).fit(module)
    equal = [str(warning.message) for warning in told if "results.json" in str(warning.message)]
    assert len(equal) == (0 if trains else 1)
    for message in equal:
        assert "before" in message
        assert "after" in message
        assert "optimizer.init_args.lr" in message


def test_numbers_are_compared_as_the_table_shows_them() -> None:
    def result(value: float, metric: str = "top1") -> Result:
        return Result("zero_shot", "shape", metric, value, 10, 0, 1)

    one = [result(0.5), result(math.nan, "worst_class")]
    assert unchanged(one, [result(0.5002), result(math.nan, "worst_class")])
    assert not unchanged(one, [result(0.501), result(math.nan, "worst_class")])
    assert not unchanged(one, [result(0.5), result(0.1, "worst_class")])
    assert not unchanged(one, one[:1])
    assert not unchanged([], [])
