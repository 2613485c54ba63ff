"""Rows of the `results.json` of several runs as one table."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from pcclip.results import Result, read_results

NAMES = ["model", "task", "subset", "metric", "factor"]


def read_runs(files: Sequence[str | Path]) -> pd.DataFrame:
    """Return a table with the columns run (the file), model and those of `Result`; factor and alpha are NaN where missing.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not a list of result rows, or is given twice.
    """
    names = [str(file) for file in files]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]}: given twice; give each run once")
    rows = pd.DataFrame(
        {"run": name, "model": model} | asdict(result)
        for name in names
        for model, results in read_results(name).items()
        for result in results
    )
    return rows.astype({"factor": float, "alpha": float}) if len(rows) else rows


def check_alike(rows: pd.DataFrame) -> None:
    """Check that all runs measured the same models by the same metrics, so that means over runs make sense.

    Raises:
        ValueError: A run lacks a row that another run has. The message names all three.
    """
    keys = {run: own[NAMES].fillna("").apply(tuple, axis=1) for run, own in rows.groupby("run", sort=False)}
    for run, own in keys.items():
        for other, wanted in keys.items():
            lacking = wanted[~wanted.isin(set(own))]
            if len(lacking):
                model, *names = lacking.iloc[0]
                name = "/".join(str(part) for part in names if part != "")
                raise ValueError(f"{run}: has no row {model} {name}, but {other} has; give runs of the same experiment")


def spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each name: `value` is the mean over runs, `low` and `high` are the lowest and highest run.

    `n` is the smallest of the runs. A value that is NaN in one run is NaN.
    """
    groups = rows.groupby(NAMES, sort=False, dropna=False)
    table = groups.agg(
        value=("value", "mean"),
        n=("n", "min"),
        low=("value", "min"),
        high=("value", "max"),
        alpha=("alpha", "first"),
    )
    table.loc[groups["value"].agg(lambda values: values.isna().any()), ["value", "low", "high"]] = float("nan")
    return table.reset_index()


def as_results(rows: pd.DataFrame) -> dict[str, list[Result]]:
    """Return the results of each model, in the order of the table."""
    results: dict[str, list[Result]] = {}
    for row in rows.itertuples(index=False):
        factor, alpha = (None if pd.isna(value) else float(value) for value in (row.factor, row.alpha))
        numbers = (row.value, row.n, row.low, row.high, factor, alpha)
        results.setdefault(row.model, []).append(Result(row.task, row.subset, row.metric, *numbers))
    return results
