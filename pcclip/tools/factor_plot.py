"""A plot of numbers that were measured over a factor, such as comparative prompting's alpha or arithmetic's lambda.

`python -m pcclip.tools.factor_plot FILE... --task TASK --subset SUBSET --curves METRIC... --output FILE.png` reads rows named
`<metric>_<factor>` from one or more `results.json`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pcclip.tools.spread import Run, check_alike, read_run


@dataclass(frozen=True)
class Points:
    """One number over the factor.

    Attributes:
        factors: Ascending.
        values: The number at each, the mean of several runs.
        lows: The lowest run, or of a single run the lower end of its interval.
        highs: The highest run, or the upper end.
    """

    factors: list[float]
    values: list[float]
    lows: list[float]
    highs: list[float]


def points(runs: Sequence[Run], model: str, metric: str) -> Points:
    """Rows `<metric>_<factor>` of the model in runs of one task and subset.

    Raises:
        ValueError: There is no such row.
    """
    found = {}
    for name in runs[0]:
        head, _, tail = name[3].rpartition("_")
        if name[0] == model and head == metric and _is_number(tail):
            found[float(tail)] = name
    if not found:
        known = sorted({name[3] for name in runs[0]})
        raise ValueError(f'no rows "{metric}_<factor>" of {model}; there are {", ".join(known)}')
    rows = [[run[found[factor]] for run in runs] for factor in sorted(found)]
    return Points(
        factors=sorted(found),
        values=[fmean(row.value for row in own) for own in rows],
        lows=[min(row.value if len(own) > 1 else row.low for row in own) for own in rows],
        highs=[max(row.value if len(own) > 1 else row.high for row in own) for own in rows],
    )


def level(runs: Sequence[Run], model: str, metric: str) -> float:
    """Mean over runs of one task and subset of a number that has no factor.

    Raises:
        ValueError: There is no such row.
    """
    values = [row.value for run in runs for name, row in run.items() if (name[0], name[3]) == (model, metric)]
    if not values:
        known = sorted({name[3] for name in runs[0]})
        raise ValueError(f'no row "{metric}" of {model}; there are {", ".join(known)}')
    return fmean(values)


def plot_factors(
    file: str | Path,
    panels: Mapping[str, Mapping[str, Points]],
    lines: Mapping[str, Mapping[str, float]],
    factor: str,
) -> None:
    """Draw a panel for each model into a PNG.

    Args:
        file: PNG to write.
        panels: Model to name to the points of its curves; a band reaches from `lows` to `highs`.
        lines: Model to name to a number, drawn as a dashed line across.
        factor: Label of the axis across.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("plots need matplotlib: pip install '.[dev]' in pcclip's folder") from error
    figure = Figure(figsize=(1.2 + 3 * len(panels), 3.6), dpi=110, layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (model, curves) in zip(row, panels.items(), strict=True):
        for name, curve in curves.items():
            (drawn,) = axes.plot(curve.factors, curve.values, marker=".", label=name)
            axes.fill_between(curve.factors, curve.lows, curve.highs, color=drawn.get_color(), alpha=0.15, linewidth=0)
        for place, (name, value) in enumerate(lines[model].items()):
            axes.axhline(value, color=("black", "grey")[place % 2], linestyle="--", linewidth=1, label=name)
        axes.set_title(model, fontsize=10)
        axes.set_xlabel(factor, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    handles, labels = row[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), fontsize=9)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after an error that the user can mend."""
    options = _parser().parse_args(arguments)
    try:
        runs = {file: read_run(file) for file in options.files}
        known = list(dict.fromkeys(name[0] for run in runs.values() for name in run))
        models = options.models or known
        if unknown := [model for model in models if model not in known]:
            raise ValueError(f"no models {unknown}; they are {', '.join(known)}")
        chosen = _chosen(runs, models, options.task, options.subset)
        panels = _curves(chosen, models, options.curves)
        lines = {model: {metric: level(chosen, model, metric) for metric in options.lines} for model in models}
        plot_factors(options.output, panels, lines, options.factor)
    except (ValueError, OSError) as error:
        print(f"factor_plot: error: {error}", file=sys.stderr)
        return 2
    print(f"written to {options.output}")
    return 0


def _chosen(runs: Mapping[str, Run], models: Sequence[str], task: str, subset: str) -> list[Run]:
    """What the runs have of one task and subset; other rows need not be alike."""
    chosen = {
        file: {name: row for name, row in run.items() if name[0] in models and name[1:3] == (task, subset)}
        for file, run in runs.items()
    }
    if not any(chosen.values()):
        sets = sorted({f"{name[1]} {name[2]}" for run in runs.values() for name in run})
        raise ValueError(f"no rows of {task} {subset}; tasks and subsets are {', '.join(sets)}")
    check_alike(chosen)
    return list(chosen.values())


def _curves(runs: Sequence[Run], models: Sequence[str], metrics: Sequence[str]) -> dict[str, dict[str, Points]]:
    """The curves of each model. One that no run has is left out and told, as evaluations leave out controls; not if all are."""
    lacking = {}
    for metric in metrics:
        try:
            points(runs, models[0], metric)
        except ValueError as error:
            lacking[metric] = error
    if len(lacking) == len(metrics):
        raise next(iter(lacking.values()))
    if lacking:
        print(f"factor_plot: left out, as there are no such rows: {', '.join(lacking)}", file=sys.stderr)
    return {
        model: {metric: points(runs, model, metric) for metric in metrics if metric not in lacking} for model in models
    }


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pcclip.tools.factor_plot",
        description="Plot rows `<metric>_<factor>` of one or more results.json: several runs as mean and range.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="results.json of `pcclip test` or `pcclip fit`")
    parser.add_argument("--task", required=True, help="e.g. comparative_prompting")
    parser.add_argument("--subset", required=True, help="e.g. unseen/confused")
    parser.add_argument("--curves", nargs="+", required=True, metavar="METRIC", help="e.g. top1_texts top1_reversed")
    parser.add_argument("--lines", nargs="+", default=[], metavar="METRIC", help="without a factor, e.g. top1_plain")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="only these, a panel each (default: all)")
    parser.add_argument("--factor", default="factor", help="what it is called, e.g. alpha")
    parser.add_argument("--output", required=True, metavar="FILE.png")
    return parser


if __name__ == "__main__":
    sys.exit(main())
