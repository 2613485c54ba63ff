"""One self-contained HTML page with the results of runs."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from pcclip.reports.headlines import (
    Headline,
    before_and_after,
    compared_models,
    explained_sets,
    headlines,
    part_in_words,
)
from pcclip.reports.plots import as_svg, plot_curves, plot_headlines, tradeoff_charts
from pcclip.reports.rows import as_results, check_alike, read_runs, spread
from pcclip.reports.sample_pairs import read_samples, samples_file
from pcclip.reports.summary import baselines, interval, shown, verdict
from pcclip.results import Result, read_results

MAIN = (
    "sign_accuracy",
    "forced_choice",
    "role_test",
    "swapped_choice",
    "spearman",
    "top1",
    "mean_per_class",
    "text_to_image_recall10",
    "image_to_text_recall10",
)
ENVIRONMENT = Environment(loader=PackageLoader("pcclip.reports", ""), autoescape=True, undefined=StrictUndefined)
ENVIRONMENT.globals |= {"shown": shown, "interval": interval, "verdict": verdict}
_BEFORE = "_before.png"
_POINTS = 1000  # of a curve


def find_results(sources: Sequence[str | Path]) -> list[Path]:
    """Return the given `results.json` files, and those anywhere below the given folders, each once.

    Raises:
        FileNotFoundError: A source does not exist, or is a folder without results.
    """
    found: dict[Path, None] = {}
    for source in map(Path, sources):
        files = [source] if source.is_file() else sorted(source.rglob("results.json"))
        if not files:
            raise FileNotFoundError(f"{source}: no results.json in it; `pcclip fit` writes one (ResultsTable)")
        found |= dict.fromkeys(files)
    return list(found)


def report_page(files: Sequence[Path], log_folder: Path | None = None) -> str:
    """Return the page: headlines, charts, ranked pictures, sample pairs, and all numbers.

    Sections without data are left out.

    Args:
        files: The `results.json` of each run.
        log_folder: For a single run: its folder with log and pictures. Default: the newest below the file's folder.

    Raises:
        ValueError: A file is not a list of result rows.
    """
    runs = [_run(file, log_folder or _newest_log(file.parent)) for file in files]
    means, not_alike = None, ""
    if len(runs) > 1:
        rows = read_runs(files)
        try:
            check_alike(rows)
            means = _grouped(as_results(spread(rows)))
        except ValueError as error:
            not_alike = str(error)
    return ENVIRONMENT.get_template("report.html.jinja").render(runs=runs, means=means, not_alike=not_alike)


def ranked_strips(folder: Path, subsets: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read the ranked pictures that `Evaluation` saved.

    Args:
        folder: Run folder.
        subsets: Subsets such as `demo/size`. Those without a picture from before training are left out.

    Returns:
        By name, the pictures `before` and `after` as PNG in base64.
    """
    strips = {}
    for subset in dict.fromkeys(subsets):
        stem = f"ranked_{subset.replace('/', '_')}"
        ends = {"before": folder / f"{stem}{_BEFORE}", "after": folder / f"{stem}.png"}
        if all(file.is_file() for file in ends.values()):
            strips[part_in_words(subset)] = {
                when: base64.b64encode(file.read_bytes()).decode() for when, file in ends.items()
            }
    return strips


def _run(file: Path, log_folder: Path | None) -> dict[str, Any]:
    """Return the template's variables for a run."""
    results = read_results(file)
    before, after = (name or "" for name in compared_models(results))
    found = headlines(*before_and_after(results))
    charts = {}
    if any(headline.is_share for headline in found):
        charts[f"{' and '.join(filter(None, (before, after)))}, with 95 % intervals"] = plot_headlines(
            found, before, after
        )
    if log_folder is not None:
        charts |= _curves(log_folder, found)
    subsets = [row.subset for rows in results.values() for row in rows]
    blended = any(row.alpha is not None and 0 < row.alpha < 1 for rows in results.values() for row in rows)
    return {
        "name": str(file.parent),
        "before": before,
        "after": after,
        "headlines": found,
        "baselines": baselines(found),
        "sets": explained_sets(results),
        "charts": {title: _encoded(as_svg(figure)) for title, figure in charts.items()},
        "tradeoff": {title: _encoded(svg) for title, svg in tradeoff_charts(results).items()} if blended else {},
        "strips": {} if log_folder is None else ranked_strips(log_folder, subsets),
        "samples": read_samples(samples_file(file)),
        "results": _grouped(results),
    }


def _newest_log(folder: Path) -> Path | None:
    """Return the newest folder with a TensorBoard log below a folder. Prefer folders with ranked pictures."""
    logs = {file.parent for file in folder.rglob("events.out.tfevents.*")}
    ranked = {file.parent for file in folder.rglob(f"ranked_*{_BEFORE}")}
    return max(ranked or logs, key=lambda log: log.stat().st_mtime, default=None)


def _curves(folder: Path, found: Sequence[Headline]) -> dict[str, Figure]:
    """Return charts of losses and headlines over steps from the folder's TensorBoard log, if there is one."""
    if not any(folder.glob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"images": 1, "tensors": 1, "scalars": _POINTS})
    events.Reload()
    tags = events.Tags()["scalars"]
    losses = {tag: tag for tag in tags if tag.endswith("loss")}
    measured = {
        headline.label: tag
        for headline in found
        if (row := headline.after or headline.before) is not None
        for tag in tags
        if tag in (f"summary/{headline.tag}", row.tag)
    }
    charts = {}
    for title, up, chosen in (("Losses in training", "loss", losses), ("Headlines in training", "share", measured)):
        points = {name: events.Scalars(tag) for name, tag in chosen.items()}
        curves = {
            name: ([point.step for point in own], [point.value for point in own])
            for name, own in points.items()
            if len(own) > 1
        }
        if curves:
            charts[title] = plot_curves(curves, up)
    return charts


def _encoded(svg: str) -> str:
    return base64.b64encode(svg.encode()).decode()


def _grouped(results: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """Group rows by task, then (subset, metric, factor), then model: the main metrics, and all metrics."""
    grouped: dict[str, Any] = {"models": list(results), "main": {}, "all": {}}
    for model, found in results.items():
        for result in found:
            for part in ("main", "all") if result.metric in MAIN else ("all",):
                task = grouped[part].setdefault(result.task, {})
                task.setdefault(result.key[1:], {})[model] = result
    return grouped
