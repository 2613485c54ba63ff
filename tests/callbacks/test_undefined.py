"""Numbers that are undefined, and models whose embeddings are not numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from pcclip.callbacks import AttributeRanking, AttributeSet, ResultsTable
from pcclip.evaluation.tables import read_results


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
