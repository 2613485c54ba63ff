"""One HTML page of the results of runs, which needs no other file and no network."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pcclip.evaluation.protocol import Result
from pcclip.evaluation.tables import read_results
from pcclip.tools.spread import check_alike, read_run, spread
from pcclip.tools.tradeoff import alpha_of, tradeoff_charts

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
STYLE = """
:root { color-scheme: light dark; --page: #f4f4f1; --card: #fff; --ink: #1d1d1b; --soft: #62625c; --line: #deded8; }
@media (prefers-color-scheme: dark) { :root { --page: #161615; --card: #20201f; --ink: #ecece8; --soft: #a3a39c;
  --line: #383835; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 84rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.5rem; } h2 { margin: 2.5rem 0 .5rem; font-size: 1.15rem; }
h3 { margin: 1rem 0 .25rem; font-size: .9rem; font-weight: 600; }
p { margin: .25rem 0 1rem; color: var(--soft); max-width: 60rem; }
.wide { overflow-x: auto; padding: .5rem 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-size: .8rem; color: var(--soft); } td.number, th.number { text-align: right; }
tr.task th { padding-top: .9rem; color: var(--ink); font-size: .9rem; }
small { color: var(--soft); }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; }
.charts > div { padding: .75rem; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
.strips img { max-width: 100%; display: block; border-radius: .3rem; }
details { margin: .75rem 0; } summary { cursor: pointer; color: var(--soft); }
"""


@dataclass(frozen=True)
class RunReport:
    """What is shown of one run.

    Attributes:
        name: Its folder.
        results: Model to rows.
        strips: Name to the PNGs of pictures as ranked before training and after.
    """

    name: str
    results: dict[str, list[Result]]
    strips: dict[str, tuple[bytes, bytes]]


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


def read_report(file: Path) -> RunReport:
    """Read the results of a run, and the pictures that its TensorBoard log holds."""
    return RunReport(str(file.parent), read_results(file), ranked_strips(file.parent))


def ranked_strips(folder: Path) -> dict[str, tuple[bytes, bytes]]:
    """Name to the first and the last PNG under `ranked/`, of the newest TensorBoard log in a folder that has any."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = {file.parent for file in folder.rglob("events.out.tfevents.*")}
    for log in sorted(logs, key=lambda folder: folder.stat().st_mtime, reverse=True):
        events = EventAccumulator(str(log), size_guidance={"images": 0})
        events.Reload()
        tags = [tag for tag in events.Tags()["images"] if tag.startswith("ranked/")]
        if tags:
            shown = {tag.removeprefix("ranked/"): events.Images(tag) for tag in tags}
            return {
                name: (images[0].encoded_image_string, images[-1].encoded_image_string)
                for name, images in shown.items()
            }
    return {}


def report_page(reports: Sequence[RunReport], files: Sequence[Path]) -> str:
    """The page.

    Args:
        reports: The runs.
        files: Their `results.json`, for the table over runs.
    """
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>pcclip results</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>pcclip results</h1>\n"
        f"<p>{escape(', '.join(report.name for report in reports))}</p>\n"
    ]
    if len(reports) > 1:
        parts.append(_over_runs(files))
    for report in reports:
        parts.append(f"<h2>{escape(report.name)}</h2>\n")
        parts.append("<p>Each number with its 95 % bootstrap interval over the items judged (n).</p>\n")
        parts.append(_tables(report.results))
        if sum(alpha_of(model) is not None for model in report.results) > 1:
            charts = "".join(f"<div>{chart}</div>" for chart in tradeoff_charts(report.results))
            parts.append(
                "<h3>Weight ensembling</h3>\n<p>alpha 0 is the base, 1 the finetuned model; bands are the intervals.</p>\n"
                f'<div class="charts">{charts}</div>\n'
            )
        if report.strips:
            parts.append("<h3>Pictures as ranked, before and after finetuning</h3>\n")
            parts += [_strip(name, *pictures) for name, pictures in report.strips.items()]
    return "".join(parts) + "</body>\n</html>\n"


def _over_runs(files: Sequence[Path]) -> str:
    runs = {str(file): read_run(file) for file in files}
    try:
        check_alike(runs)
    except ValueError as error:
        return f"<p>No means over runs: {escape(str(error))}.</p>\n"
    summary = spread(list(runs.values()))
    return f"<h2>All {len(runs)} runs</h2>\n<p>Mean over the runs [lowest, highest run].</p>\n{_tables(summary)}"


def _tables(results: Mapping[str, Sequence[Result]]) -> str:
    """The main metrics, and behind a click all of them."""
    main = {model: [row for row in rows if row.metric in MAIN] for model, rows in results.items()}
    everything = f"<details><summary>all metrics</summary>\n{_table(results)}</details>\n"
    return (_table(main) if any(main.values()) else "") + everything


def _table(results: Mapping[str, Sequence[Result]]) -> str:
    rows: dict[tuple[str, str, str], dict[str, Result]] = {}
    for model, found in results.items():
        for result in found:
            rows.setdefault((result.task, result.subset, result.metric), {})[model] = result
    heads = "".join(f'<th class="number">{escape(model)}</th>' for model in results)
    lines = [f'<div class="wide"><table>\n<tr><th>set</th><th>metric</th>{heads}<th class="number">n</th></tr>\n']
    last = None
    for (task, subset, metric), by_model in rows.items():
        if task != last:
            lines.append(f'<tr class="task"><th colspan="{len(results) + 3}">{escape(task)}</th></tr>\n')
            last = task
        cells = "".join(f'<td class="number">{_cell(by_model.get(model))}</td>' for model in results)
        counts = " / ".join(str(count) for count in sorted({result.n for result in by_model.values()}))
        lines.append(
            f'<tr><td>{escape(subset)}</td><td>{escape(metric)}</td>{cells}<td class="number"><small>{counts}</small></td>'
            "</tr>\n"
        )
    return "".join(lines) + "</table></div>\n"


def _cell(result: Result | None) -> str:
    if result is None or math.isnan(result.value):
        return "-"
    if math.isnan(result.low):
        return f"{result.value:.3f}"
    return f"{result.value:.3f} <small>[{result.low:.3f}, {result.high:.3f}]</small>"


def _strip(name: str, before: bytes, after: bytes) -> str:
    pictures = "".join(
        f'<p>{when}</p><img alt="{escape(name)}, {when}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for when, png in (("before", before), ("after", after))
    )
    return f'<div class="strips"><h3>{escape(name)}</h3>{pictures}</div>\n'
