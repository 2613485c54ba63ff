"""Charts of results, as PNG files or SVG text."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from pcclip.data.picture_files import MARK

PANELS_ACROSS = 5  # at most


def as_svg(figure: Figure) -> str:
    """Return an `<svg>` element; the same figure gives the same text."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "pcclip", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def band(axes: Any, points: pd.DataFrame, across: str, label: str) -> None:
    """Draw `value` over the column `across`, with a band from `low` to `high`."""
    (drawn,) = axes.plot(points[across], points["value"], marker=".", label=label)
    axes.fill_between(points[across], points["low"], points["high"], color=drawn.get_color(), alpha=0.15, linewidth=0)


def plot_alpha(title: str, curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw numbers over the share of finetuned weights: one line with its interval for each name."""
    figure = Figure(figsize=(4.2, 2.8 + 0.2 * len(curves)), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        band(axes, points, "alpha", name)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("alpha", fontsize=9)
    _finish(axes)
    figure.legend(loc="outside lower center", fontsize=8)
    return figure


def plot_factors(
    file: str | Path, panels: Mapping[str, tuple[Mapping[str, pd.DataFrame], Mapping[str, float]]], factor: str
) -> None:
    """Draw a panel for each model into a PNG: curves over the column `factor`, and levels as dashed lines.

    Args:
        file: The PNG to write.
        panels: Model to its curves by name (columns factor, value, low, high) and its levels by name.
        factor: Label of the horizontal axis.
    """
    figure = Figure(figsize=(1.2 + 3 * len(panels), 3.6), dpi=110, layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (model, (curves, levels)) in zip(row, panels.items(), strict=True):
        for name, points in curves.items():
            band(axes, points, "factor", name)
        for place, (name, value) in enumerate(levels.items()):
            axes.axhline(value, color=("black", "grey")[place % 2], linestyle="--", linewidth=1, label=name)
        axes.set_title(model, fontsize=10)
        axes.set_xlabel(factor, fontsize=9)
        _finish(axes)
    _save(figure, row[0], file)


def plot_cells(file: str | Path, cells: pd.DataFrame, base: Mapping[str, float]) -> None:
    """Draw a grid of runs into a PNG: a panel for each number, a row for each cell, a colour for each model.

    A dot is the mean over runs. A bar reaches from the lowest to the highest run.

    Args:
        file: The PNG to write.
        cells: Columns heading, model, cell, value, low, high.
        base: Heading to the base model's mean, drawn as a dashed line.
    """
    headings, names, models = (list(cells[column].unique()) for column in ("heading", "cell", "model"))
    down = math.ceil(len(headings) / PANELS_ACROSS)
    across = math.ceil(len(headings) / down)
    size = (2.2 + 2.3 * across, down * (0.9 + 0.26 * len(names)))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    grid = figure.subplots(down, across, sharey=True, squeeze=False).flatten()
    for axes, heading in zip(grid, headings, strict=False):
        axes.axvline(base[heading], color="grey", linestyle="--", linewidth=1, label="base")
        for number, model in enumerate(models):
            own = cells[(cells["heading"] == heading) & (cells["model"] == model)].set_index("cell").reindex(names)
            bars = [own["value"] - own["low"], own["high"] - own["value"]]
            places = [place + 0.22 * (number - (len(models) - 1) / 2) for place in range(len(own))]
            axes.errorbar(own["value"], places, xerr=bars, fmt="o", markersize=4, linewidth=1.2, label=model)
        axes.set_title(heading, fontsize=9)
        _finish(axes)
    for axes in grid[len(headings) :]:
        axes.set_visible(False)
    grid[0].set_yticks(range(len(names)), names)
    grid[0].invert_yaxis()
    _save(figure, grid[0], file)


def plot_sweeps(file: str | Path, sweeps: Mapping[str, pd.DataFrame], across: str, up: str) -> None:
    """Draw weight ensembles into a PNG: one number against another, from the base (square) to the finetuned model (star).

    Args:
        file: The PNG to write.
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
    figure.savefig(file, metadata=MARK)


def _finish(axes: Any) -> None:
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def _save(figure: Figure, axes: Any, file: str | Path) -> None:
    """Save with one legend below all panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), fontsize=9)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata=MARK)
