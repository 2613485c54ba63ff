"""A plot of weight ensembles: one number against another along the way from the base to the finetuned weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Curve:
    """One way from base to finetuned.

    Attributes:
        name: For the legend.
        alphas: Share of the finetuned weights, ascending from 0 to 1.
        across: The number across, at each alpha.
        up: The number up, at each alpha.
    """

    name: str
    alphas: list[float]
    across: list[float]
    up: list[float]


def plot_sweeps(file: str | Path, curves: Sequence[Curve], across: str, up: str) -> None:
    """Draw the curves into a PNG, each alpha marked; a square is the base, a star the finetuned model.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("plots need matplotlib: pip install '.[dev]' in pcclip's folder") from error
    figure = Figure(figsize=(6.4, 4.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        (line,) = axes.plot(curve.across, curve.up, marker=".", label=curve.name)
        for place, marker in ((0, "s"), (-1, "*")):
            axes.plot(curve.across[place], curve.up[place], marker=marker, markersize=9, color=line.get_color())
        for alpha, x, y in zip(curve.alphas, curve.across, curve.up, strict=True):
            axes.annotate(f"{alpha:g}", (x, y), textcoords="offset points", xytext=(4, 4), fontsize=7)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(file)
