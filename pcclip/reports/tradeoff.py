"""What weight ensembling trades: metrics over alpha, from base (0) to finetuned (1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pandas as pd

from pcclip.reports.plots import as_svg, plot_alpha
from pcclip.results import Result

METRICS = ("forced_choice", "swapped_choice", "spearman", "top1", "text_to_image_recall10")
MOST = 8  # lines in a chart


def name_of(alpha: float) -> str:
    """Return the name of a weight ensemble."""
    return {0.0: "base", 1.0: "finetuned"}.get(alpha, f"ensembled {alpha:g}")


def tradeoff_charts(results: Mapping[str, Sequence[Result]], metrics: Sequence[str] = METRICS) -> dict[str, str]:
    """Return title to SVG: a chart for each task and metric, with a line for each subset, at most eight."""
    rows = pd.DataFrame(
        asdict(result)
        for found in results.values()
        for result in found
        if result.metric in metrics and result.alpha is not None
    )
    if rows.empty:
        return {}
    charts = {}
    for (task, metric), own in rows.sort_values("alpha", kind="stable").groupby(["task", "metric"], sort=False):
        subsets = dict(iter(own.groupby("subset", sort=False)))
        title = f"{task}: {metric}"
        charts[title] = as_svg(plot_alpha(title, dict(list(subsets.items())[:MOST])))
    return charts
