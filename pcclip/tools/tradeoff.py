"""What weight ensembling trades: every metric over alpha, from base (0) to finetuned (1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pcclip.evaluation.protocol import Result
from pcclip.tools.line_chart import line_chart

METRICS = ("forced_choice", "swapped_choice", "spearman", "top1", "text_to_image_recall10")
MOST = 8  # lines in a chart


def alpha_of(model: str) -> float | None:
    """The alpha of a model's name: 0 for `base`, 1 for `finetuned`, 0.7 for `ensembled 0.7`; None for others."""
    if model in ("base", "finetuned"):
        return float(model == "finetuned")
    found = re.fullmatch(r"ensembled (\d*\.?\d+)", model)
    return float(found[1]) if found else None


def name_of(alpha: float) -> str:
    """The name of a model, as `alpha_of` reads it."""
    return {0.0: "base", 1.0: "finetuned"}.get(alpha, f"ensembled {alpha:g}")


def tradeoff_charts(results: Mapping[str, Sequence[Result]], metrics: Sequence[str] = METRICS) -> list[str]:
    """An SVG chart for each task and metric that the results have, with a line for each subset; at most eight."""
    alphas = sorted((alpha, model) for model in results if (alpha := alpha_of(model)) is not None)
    charts: dict[tuple[str, str], dict[str, list[tuple[float, Result]]]] = {}
    for alpha, model in alphas:
        for result in results[model]:
            if result.metric in metrics:
                lines = charts.setdefault((result.task, result.metric), {})
                if result.subset in lines or len(lines) < MOST:
                    lines.setdefault(result.subset, []).append((alpha, result))
    return [line_chart(f"{task}: {metric}", lines) for (task, metric), lines in charts.items()]
