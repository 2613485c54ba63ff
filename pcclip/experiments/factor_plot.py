"""A plot of numbers over a factor, such as alpha or lambda: `python -m pcclip.experiments factor_plot FILE...`."""

import sys
from collections.abc import Sequence

import pandas as pd

from pcclip.reports.plots import plot_factors, save
from pcclip.reports.rows import check_alike, read_runs, spread


def points(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the rows of some metrics that have a factor, sorted by factor.

    For several runs, `value` is the mean, and `low` and `high` are the lowest and the highest run. For one run, `low` and
    `high` are the ends of its interval.
    """
    chosen = rows[rows["metric"].isin(metrics) & rows["factor"].notna()]
    if chosen["run"].nunique() > 1:
        chosen = spread(chosen)
    return chosen.sort_values("factor", kind="stable")


def plot(
    files: list[str],
    task: str,
    subset: str,
    curves: list[str],
    output: str,
    lines: list[str] | None = None,
    models: list[str] | None = None,
    factor: str = "factor",
) -> None:
    """Plot metrics over their factor, with a panel for each model. Several runs are shown as mean and range.

    Args:
        files: `results.json` of `pcclip test` or `pcclip fit`.
        task: For example `comparative_prompting`.
        subset: For example `unseen/confused`.
        curves: Metrics with a factor, e.g. `[top1_texts, top1_reversed]`. Metrics that no run has are skipped.
        output: The PNG to write.
        lines: Metrics without a factor, e.g. `[top1_plain]`.
        models: Plot only these models (default: all).
        factor: Label of the factor, e.g. `alpha`.
    """
    rows = read_runs(files)
    models = models or list(rows["model"].unique())
    if unknown := sorted(set(models) - set(rows["model"])):
        raise ValueError(f"no models {unknown}; the models are {', '.join(rows['model'].unique())}")
    chosen = rows[(rows["task"] == task) & (rows["subset"] == subset) & rows["model"].isin(models)]
    if chosen.empty:
        known = sorted(set(rows["task"] + " " + rows["subset"]))
        raise ValueError(f"no rows of {task} {subset}; tasks and subsets are {', '.join(known)}")
    check_alike(chosen)
    found, metrics = points(chosen, curves), ", ".join(chosen["metric"].unique())
    missing = [curve for curve in curves if curve not in set(found["metric"])]
    if found.empty:
        raise ValueError(f"no rows {missing[0]} with a factor; the metrics are {metrics}")
    if missing:
        print(f"factor_plot: skipped, no such rows: {', '.join(missing)}", file=sys.stderr)
    if unknown := sorted(set(lines or []) - set(chosen["metric"])):
        raise ValueError(f"no rows {unknown}; the metrics are {metrics}")
    levels = chosen.groupby(["model", "metric"])["value"].mean()
    panels = {
        model: (
            {
                curve: found[(found["model"] == model) & (found["metric"] == curve)]
                for curve in curves
                if curve not in missing
            },
            {line: float(levels[model, line]) for line in lines or []},
        )
        for model in models
    }
    save(plot_factors(panels, factor), output)
    print(f"written to {output}")
