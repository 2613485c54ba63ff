"""One table over several runs of an experiment, such as seeds: `python -m pcclip.experiments.spread FILE...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pcclip.experiments.document import write_part
from pcclip.experiments.script import run_script
from pcclip.reports.rows import NAMES, as_results, check_alike, read_runs, spread
from pcclip.results import markdown_table


def make_table(
    files: list[str], output: str | None = None, title: str = "results", metrics: list[str] | None = None
) -> None:
    """Make one table, mean [lowest, highest], of the results of several runs of one experiment.

    Args:
        files: The `results.json` of each run.
        output: Markdown file; only its part between the marks of the title changes.
        title: Name of the part: `<!-- spread:TITLE -->`.
        metrics: Only these, e.g. `[forced_choice, top1]`.
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_script(make_table, arguments, several="files")


if __name__ == "__main__":
    sys.exit(main())
