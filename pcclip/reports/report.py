"""One HTML page of the results of runs. It needs no other file and no network."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pcclip.reports.plots import tradeoff_charts
from pcclip.reports.rows import as_results, check_alike, read_runs, spread
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


def find_results(sources: Sequence[str | Path]) -> list[Path]:
    """The `results.json` of runs: files themselves, or anywhere below folders; each once.

    Raises:
        FileNotFoundError: A source that is not there, or a folder without any.
    """
    found: dict[Path, None] = {}
    for source in map(Path, sources):
        files = [source] if source.is_file() else sorted(source.rglob("results.json"))
        if not files:
            raise FileNotFoundError(f"{source}: no results.json in it; `pcclip fit` writes one (ResultsTable)")
        found |= dict.fromkeys(files)
    return list(found)


def ranked_strips(folder: Path) -> dict[str, dict[str, str]]:
    """Return name to `before` and `after`, the first and last image under `ranked/` of the newest TensorBoard log.

    The images are PNG files in base64. Empty when no log in the folder has any.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = {file.parent for file in folder.rglob("events.out.tfevents.*")}
    for log in sorted(logs, key=lambda folder: folder.stat().st_mtime, reverse=True):
        events = EventAccumulator(str(log), size_guidance={"images": 0})
        events.Reload()
        tags = [tag for tag in events.Tags()["images"] if tag.startswith("ranked/")]
        if tags:
            return {
                tag.removeprefix("ranked/"): {
                    when: base64.b64encode(events.Images(tag)[place].encoded_image_string).decode()
                    for when, place in (("before", 0), ("after", -1))
                }
                for tag in tags
            }
    return {}


def report_page(files: Sequence[Path]) -> str:
    """Return the page of some `results.json`: tables, charts of weight ensembling, and images as ranked.

    Raises:
        ValueError: A file is not a list of result rows.
    """
    runs = []
    for file in files:
        results = read_results(file)
        blended = any(row.alpha is not None and 0 < row.alpha < 1 for rows in results.values() for row in rows)
        charts = tradeoff_charts(results) if blended else {}
        strips = ranked_strips(file.parent)
        encoded = {title: base64.b64encode(svg.encode()).decode() for title, svg in charts.items()}
        runs.append({"name": str(file.parent), "results": _grouped(results), "charts": encoded, "strips": strips})
    summary, not_alike = None, ""
    if len(runs) > 1:
        rows = read_runs(files)
        try:
            check_alike(rows)
            summary = _grouped(as_results(spread(rows)))
        except ValueError as error:
            not_alike = str(error)
    template = ENVIRONMENT.get_template("report.html.jinja")
    return template.render(runs=runs, summary=summary, not_alike=not_alike)


def _grouped(results: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """Rows as the template takes them: task to (subset, metric, factor) to model to result, the main metrics and all."""
    grouped: dict[str, Any] = {"models": list(results), "main": {}, "all": {}}
    for model, found in results.items():
        for result in found:
            for part in ("main", "all") if result.metric in MAIN else ("all",):
                task = grouped[part].setdefault(result.task, {})
                task.setdefault(result.key[1:], {})[model] = result
    return grouped
