"""Rows of the `results.json` of several runs as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from pcclip.metrics.protocol import Result
from pcclip.metrics.tables import read_results

NAMES = ["model", "task", "subset", "metric"]


def read_runs(files: Sequence[str | Path]) -> pd.DataFrame:
    """Return a table with the columns run (the file), model, task, subset, metric, value, n, low and high.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not a list of result rows, or is given twice.
    """
    names = [str(file) for file in files]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]}: given twice; give each run once")
    return pd.DataFrame(
        {"run": name, "model": model} | asdict(result)
        for name in names
        for model, results in read_results(name).items()
        for result in results
    )


def check_alike(rows: pd.DataFrame) -> None:
    """Refuse runs that did not measure the same models by the same metrics: their means would not be comparable.

    Raises:
        ValueError: Names a run, a row that it lacks and a run that has it.
    """
    runs = rows["run"].unique()
    counts = rows.groupby(NAMES, sort=False)["run"].nunique()
    if (counts == len(runs)).all():
        return
    missing = counts.index[counts < len(runs)][0]
    owners = rows.loc[(rows[NAMES] == list(missing)).all(axis=1), "run"]
    without = next(run for run in runs if run not in set(owners))
    model, *rest = missing
    raise ValueError(
        f"{without}: has no row {model} {'/'.join(filter(None, rest))}, but {owners.iloc[0]} has; "
        "give runs of the same experiment"
    )


def spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each name: `value` is the mean over runs, `low` and `high` are the lowest and highest run.

    `n` is the smallest. A number that is undefined (NaN) in one run is undefined.
    """
    groups = rows.groupby(NAMES, sort=False)
    table = groups.agg(value=("value", "mean"), n=("n", "min"), low=("value", "min"), high=("value", "max"))
    table.loc[groups["value"].agg(lambda values: values.isna().any()), ["value", "low", "high"]] = float("nan")
    return table.reset_index()


def as_results(rows: pd.DataFrame) -> dict[str, list[Result]]:
    """Return model to results, in the order of the table."""
    results: dict[str, list[Result]] = {}
    for row in rows[[*NAMES, "value", "n", "low", "high"]].itertuples(index=False):
        results.setdefault(row.model, []).append(Result(*row[1:]))
    return results
