"""A picture of a grid of runs: for each number a panel, in it for each cell where its runs lie, beside the base."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

PANELS_ACROSS = 5  # at most


def plot_grid(
    file: str | Path,
    panels: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    base: Mapping[str, Sequence[float]],
) -> None:
    """Draw the cells into a PNG: a dot is the mean over the runs, a bar reaches from the lowest to the highest.

    Args:
        file: PNG to write.
        panels: Title to model to cell to the values of its runs; at least one panel. All panels have the same cells.
        base: Title to the values of the base model, drawn as a dashed line at their mean.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("plots need matplotlib: pip install '.[dev]' in pcclip's folder") from error
    cells = list(next(iter(next(iter(panels.values())).values())))
    down = math.ceil(len(panels) / PANELS_ACROSS)
    across = math.ceil(len(panels) / down)
    size = (2.2 + 2.3 * across, down * (0.9 + 0.26 * len(cells)))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    grid = figure.subplots(down, across, sharey=True, squeeze=False).flatten()
    for axes, (title, models) in zip(grid, panels.items(), strict=False):
        axes.axvline(fmean(base[title]), color="grey", linestyle="--", linewidth=1, label="base")
        for number, (model, rows) in enumerate(models.items()):
            means = [fmean(values) for values in rows.values()]
            bars = [
                [mean - min(values) for mean, values in zip(means, rows.values(), strict=True)],
                [max(values) - mean for mean, values in zip(means, rows.values(), strict=True)],
            ]
            places = [place + 0.22 * (number - (len(models) - 1) / 2) for place in range(len(rows))]
            axes.errorbar(means, places, xerr=bars, fmt="o", markersize=4, linewidth=1.2, label=model)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    grid[0].set_yticks(range(len(cells)), cells)
    grid[0].invert_yaxis()
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    figure.savefig(file)
