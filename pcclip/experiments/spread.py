"""One table over several runs of an experiment, such as seeds: `python -m pcclip.experiments spread FILE...`.

The table is a part of a Markdown document, between `<!-- spread:TITLE -->` and `<!-- /spread:TITLE -->`.
"""

import math
from pathlib import Path

import pandas as pd

from pcclip.atomic import atomic_text
from pcclip.reports.rows import NAMES, as_results, check_alike, read_runs, spread
from pcclip.results import markdown_rows, markdown_table


def make_table(
    files: list[str], output: str | None = None, title: str = "results", metrics: list[str] | None = None
) -> None:
    """Print one table of the results of several runs of an experiment, as mean [lowest, highest].

    Args:
        files: The `results.json` of each run.
        output: Also write the table into this Markdown file, between the marks of the title.
        title: Name of the part: `<!-- spread:TITLE -->`.
        metrics: Show only these metrics, e.g. `[forced_choice, top1]`.
    """
    rows = read_runs(files)
    check_alike(rows)
    if metrics is not None:
        if unknown := sorted(set(metrics) - set(rows["metric"])):
            raise ValueError(f"no run has the metrics {unknown}; they have {', '.join(rows['metric'].unique())}")
        rows = rows[rows["metric"].isin(metrics)]
    text = f"Mean [lowest, highest] of {rows['run'].nunique()} runs."
    if (rows.groupby(NAMES, dropna=False)["n"].nunique() > 1).any():
        text += " Where the runs differ in n, the smallest is given."
    text += f"\n\n{markdown_table(as_results(spread(rows)))}"
    print(text, end="")
    if output is not None:
        write_part(output, title, text)
        print(f'written to {output}, part "{title}"')


def markdown(table: pd.DataFrame) -> str:
    """Return a Markdown table of the columns."""
    return markdown_rows([list(table), *table.astype(str).to_numpy().tolist()])


def mean_and_range(mean: float, low: float, high: float) -> str:
    """Return a cell `mean [lowest, highest]`; `mean` alone if the runs agree."""
    if math.isnan(mean):
        return "-"
    return f"{mean:.3f}" if low == high else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def write_part(file: str | Path, title: str, text: str) -> None:
    """Put `text` between the marks of `title`, or append it with marks. The rest of the file does not change.

    Args:
        file: Markdown file. It is created if it is missing.
        title: Name in the marks.
        text: Markdown.

    Raises:
        ValueError: A mark is missing or repeated, the marks are in the wrong order, or the title cannot be in a comment.
    """
    file = Path(file)
    if "--" in title or not title.strip() or not title.isprintable():
        raise ValueError(f"{file}: title {title!r}: must be one line of text without `--`")
    document = file.read_bytes().decode("utf-8") if file.is_file() else ""
    begin, end = f"<!-- spread:{title} -->", f"<!-- /spread:{title} -->"
    part = f"{begin}\n\n{text.strip()}\n\n{end}"
    found = document.count(begin), document.count(end)
    if found == (0, 0):
        document = f"{document.rstrip()}\n\n{part}\n".lstrip()
    elif found == (1, 1) and document.index(begin) < document.index(end):
        document = document[: document.index(begin)] + part + document[document.index(end) + len(end) :]
    else:
        raise ValueError(
            f"{file}: expected one {begin} and after it one {end}, found {found[0]} and {found[1]}; fix the marks"
        )
    with atomic_text(file) as stream:
        stream.write(document)
