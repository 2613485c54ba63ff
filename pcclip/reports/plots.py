"""Charts of results, as PNG files or SVG text."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from pcclip.data.picture_files import MARK
from pcclip.reports.headlines import Headline, in_words, part_in_words
from pcclip.results import Result

WIDTH = 5.6  # of a report's charts in inches: their text stays readable on a telephone
PANELS_ACROSS = 5  # at most
METRICS = ("forced_choice", "swapped_choice", "spearman", "top1", "text_to_image_recall10")
MOST_LINES = 8  # in a chart of the trade-off
LEAST_SPAN = 0.2  # of its vertical axis, so that differences within the intervals do not look large
COLOURS = 10  # of matplotlib's lines, before they repeat


def as_svg(figure: Figure) -> str:
    """Return a figure as an `<svg>` element. The text is deterministic."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "pcclip", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def save(figure: Figure, file: str | Path) -> None:
    """Write a PNG file with metadata that marks it as drawn by pcclip."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata=MARK)


def name_of(alpha: float) -> str:
    """Return the name of a weight ensemble."""
    return {0.0: "base", 1.0: "finetuned"}.get(alpha, f"ensembled {alpha:g}")


def tradeoff_charts(results: Mapping[str, Sequence[Result]]) -> dict[str, str]:
    """Draw each of `METRICS` against alpha, from the base model (0) to the finetuned model (1).

    Returns:
        The SVG of each chart by its title: a chart for each task and metric, with a line for each of at most eight subsets.
    """
    rows = pd.DataFrame(
        asdict(result)
        for found in results.values()
        for result in found
        if result.metric in METRICS and result.alpha is not None
    )
    if rows.empty:
        return {}
    charts = {}
    for (task, metric), own in rows.sort_values("alpha", kind="stable").groupby(["task", "metric"], sort=False):
        points = own.drop(columns="factor").rename(columns={"alpha": "factor"})
        curves = [(part_in_words(subset), curve) for subset, curve in points.groupby("subset", sort=False)]
        title = f"{task}: {metric}"
        figure = plot_factors({in_words(title): (dict(curves[:MOST_LINES]), {})}, "alpha")
        low, high = figure.axes[0].get_ylim()
        figure.axes[0].set_ylim(min(low, high - LEAST_SPAN), high)
        charts[title] = as_svg(figure)
    return charts


def plot_headlines(found: Sequence[Headline], before: str, after: str) -> Figure:
    """Draw both models' values with 95 % intervals, a row for each headline. Values that are not shares are left out."""
    rows = [headline for headline in found if headline.is_share]
    figure = Figure(figsize=(WIDTH, 0.9 + 0.56 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for name, colour, shift, results in (
        (before, "#8a8a85", -0.08, [headline.before for headline in rows]),
        (after, "#1f6fb4", 0.1, [headline.after for headline in rows]),
    ):
        known = [(place + shift, result) for place, result in enumerate(results) if result is not None]
        if not name or not known:
            continue
        values = [100 * result.value for _, result in known]
        bars = [
            [max(0.0, 100 * (result.value - result.low)) for _, result in known],
            [max(0.0, 100 * (result.high - result.value)) for _, result in known],
        ]
        places = [place for place, _ in known]
        axes.errorbar(values, places, xerr=bars, fmt="o", color=colour, markersize=6, elinewidth=2, label=name)
    for place, headline in enumerate(rows):
        axes.annotate(headline.label, (0, place - 0.3), xycoords=("axes fraction", "data"), fontsize=10)
    axes.set(xlim=(-2, 102), ylim=(len(rows) - 0.6, -0.75), yticks=[])
    axes.xaxis.set_major_formatter("{x:g} %")
    axes.grid(axis="x", alpha=0.3)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    _add_legend(figure, axes)
    return figure


def plot_curves(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], up: str) -> Figure:
    """Draw curves over training steps.

    Args:
        curves: Name to steps and values.
        up: Label of the vertical axis.
    """
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    for place, (name, (steps, values)) in enumerate(curves.items()):
        dashes = "-" if place < COLOURS else "--"
        axes.plot(steps, values, dashes, marker="." if len(steps) < 20 else "", linewidth=1.4, label=name)
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel(up, fontsize=9)
    _finish(axes)
    _add_legend(figure, axes)
    return figure


def plot_factors(panels: Mapping[str, tuple[Mapping[str, pd.DataFrame], Mapping[str, float]]], factor: str) -> Figure:
    """Draw a panel for each model: curves over the column `factor`, and levels as dashed lines.

    Args:
        panels: For each model its curves by name (columns factor, value, low, high), and its levels by name. Each curve
            has a band from `low` to `high`.
        factor: Label of the horizontal axis.
    """
    figure = Figure(figsize=(1.2 + 3 * len(panels), 3.6), dpi=110, layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (model, (curves, levels)) in zip(row, panels.items(), strict=True):
        for name, points in curves.items():
            (drawn,) = axes.plot(points["factor"], points["value"], marker=".", label=name)
            axes.fill_between(
                points["factor"], points["low"], points["high"], color=drawn.get_color(), alpha=0.15, linewidth=0
            )
        for place, (name, value) in enumerate(levels.items()):
            axes.axhline(value, color=("black", "grey")[place % 2], linestyle="--", linewidth=1, label=name)
        axes.set_title(model, fontsize=10)
        axes.set_xlabel(factor, fontsize=9)
        _finish(axes)
    _add_legend(figure, row[0])
    return figure


def plot_cells(cells: pd.DataFrame, base: Mapping[str, float]) -> Figure:
    """Draw a grid of runs: a panel for each metric, a row for each cell, a colour for each model.

    A dot is the mean over runs. A bar reaches from the lowest to the highest run.

    Args:
        cells: Columns metric, model, cell, value, low, high.
        base: Metric to the base model's mean, drawn as a dashed line.
    """
    headings, names, models = (list(cells[column].unique()) for column in ("metric", "cell", "model"))
    down = math.ceil(len(headings) / PANELS_ACROSS)
    across = math.ceil(len(headings) / down)
    size = (2.2 + 2.3 * across, down * (0.9 + 0.26 * len(names)))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    grid = figure.subplots(down, across, sharey=True, squeeze=False).flatten()
    for axes, heading in zip(grid, headings, strict=False):
        axes.axvline(base[heading], color="grey", linestyle="--", linewidth=1, label="base")
        for number, model in enumerate(models):
            own = cells[(cells["metric"] == heading) & (cells["model"] == model)].set_index("cell").reindex(names)
            bars = [own["value"] - own["low"], own["high"] - own["value"]]
            places = [place + 0.22 * (number - (len(models) - 1) / 2) for place in range(len(own))]
            axes.errorbar(own["value"], places, xerr=bars, fmt="o", markersize=4, linewidth=1.2, label=model)
        axes.set_title(heading, fontsize=9)
        _finish(axes)
    for axes in grid[len(headings) :]:
        axes.set_visible(False)
    grid[0].set_yticks(range(len(names)), names)
    grid[0].invert_yaxis()
    _add_legend(figure, grid[0])
    return figure


def plot_sweeps(sweeps: Mapping[str, pd.DataFrame], across: str, up: str) -> Figure:
    """Draw one metric of weight ensembles against another, from the base (square) to the finetuned model (star).

    Args:
        sweeps: Name to a table with the columns alpha, `across` and `up`, ascending in alpha.
        across: Column of the horizontal axis.
        up: Column of the vertical axis.
    """
    figure = Figure(figsize=(6.4, 4.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for name, sweep in sweeps.items():
        (line,) = axes.plot(sweep[across], sweep[up], marker=".", label=name)
        for place, marker in ((0, "s"), (-1, "*")):
            end = sweep.iloc[[place]]
            axes.plot(end[across], end[up], marker=marker, markersize=9, color=line.get_color())
        for alpha, x, y in sweep[["alpha", across, up]].itertuples(index=False):
            axes.annotate(f"{alpha:g}", (x, y), textcoords="offset points", xytext=(4, 4), fontsize=7)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _finish(axes: Any) -> None:
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def _add_legend(figure: Figure, axes: Any) -> None:
    """Add a legend below, in as many columns as fit. More rows make the figure taller."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels), default=0)
    fitting = int(figure.get_figwidth() / (0.5 + 0.075 * longest))  # inches of a label with its handle
    columns = max(1, min(len(labels), 5, fitting))
    figure.set_figheight(figure.get_figheight() + 0.19 * (math.ceil(len(labels) / columns) - 1))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)
