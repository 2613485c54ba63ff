"""Summary of a run for the terminal, and the Markdown page of all its results."""

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from pcclip.reports.headlines import Headline, before_and_after, compared_models, explained_sets, headlines
from pcclip.results import Result, markdown_rows, markdown_table

_PLAIN_WIDTH = 110  # where no terminal has one


def shown(result: Result | None, is_share: bool = True) -> str:
    """Format a number: a share in percent, others with three digits, a dash for None."""
    if result is None or math.isnan(result.value):
        return "-"
    return f"{100 * result.value:.0f} %" if is_share else f"{result.value:.3g}"


def interval(result: Result | None, is_share: bool = True) -> str:
    """Format the 95 % interval. Empty if there is none."""
    if result is None or math.isnan(result.low):
        return ""
    scale, digits = (100, ".0f") if is_share else (1, ".3g")
    return f"{scale * result.low:{digits}} to {scale * result.high:{digits}}"


def verdict(headline: Headline) -> str:
    """Return `better` or `worse` if the two intervals do not overlap. Empty otherwise, and for values that are no shares."""
    before, after = headline.before, headline.after
    if before is None or after is None or not headline.is_share:
        return ""
    return "better" if after.low > before.high else "worse" if after.high < before.low else ""


def baselines(found: Sequence[Headline]) -> str:
    """Return one line with the range of each baseline over the headlines. Empty if there are none."""
    values: dict[str, list[float]] = {}
    for headline in found:
        for name, result in headline.baselines.items():
            if not math.isnan(result.value):
                values.setdefault(name, []).append(result.value)
    texts = []
    for name, numbers in values.items():
        ends = [f"{100 * end:.0f}" for end in (min(numbers), max(numbers))]
        texts.append(f"{name} {' to '.join(dict.fromkeys(ends))} %")
    return ", ".join(texts)


def print_summary(results: Mapping[str, Sequence[Result]], console: Console | None = None) -> None:
    """Print the headlines with their baselines. On a terminal, green and red mark changes beyond chance.

    The intervals are left out where the terminal is too narrow for them.
    """
    console = console or Console()
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    found = headlines(*before_and_after(results))
    before, after = compared_models(results)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in filter(None, (before, after)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    colours = {"better": "green", "worse": "red"}
    for headline in found:
        cells = [shown(headline.before, headline.is_share)] if before else []
        if after:
            number = shown(headline.after, headline.is_share)
            cells.append(f"-> {number:>5}" if before else number)
        last = headline.after if after else headline.before
        style = colours.get(verdict(headline), "")
        table.add_row(headline.label, *cells, interval(last, headline.is_share), style=style)
    if console.measure(table, options=console.options.update(width=_PLAIN_WIDTH)).maximum > console.width:
        table.columns.pop()
    console.print()
    console.print(table)
    if line := baselines(found):
        console.print(f"\nBaselines: {line}", highlight=False)


def results_page(results: Mapping[str, Sequence[Result]]) -> str:
    """Return the Markdown page of all results: the headlines, then a table for each kind of task."""
    found = headlines(*before_and_after(results))
    before, after = (name or "" for name in compared_models(results))
    names = [name for name in (before, after) if name]
    rows = [["", *names, "n"]]
    for headline in found:
        ends = [end for end, name in ((headline.before, before), (headline.after, after)) if name]
        cells = [f"{shown(end, headline.is_share)} [{interval(end, headline.is_share)}]" for end in ends]
        n = next((end.n for end in reversed(ends) if end is not None), 0)
        rows.append([headline.label, *cells, str(n)])
    page = ["# Results", "", markdown_rows(rows)]
    if line := baselines(found):
        page += [f"Baselines: {line}.", ""]
    page += ["Each number of the tables is followed by its 95 % bootstrap interval over the n items judged.", ""]
    page += [f"`{name}`: {words}." for name, words in explained_sets(results).items()]
    main = {(row.task, row.metric) for headline in found for row in (headline.before, headline.after) if row}
    for task in dict.fromkeys(row.task for found in results.values() for row in found):
        own = {
            model: sorted((row for row in rows if row.task == task), key=lambda row: (row.task, row.metric) not in main)
            for model, rows in results.items()
        }
        page += ["", f"## {task}", "", markdown_table({model: rows for model, rows in own.items() if rows})]
    return "\n".join(page).rstrip() + "\n"
