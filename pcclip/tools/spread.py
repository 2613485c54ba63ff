"""What several runs of one experiment, such as seeds, agree on: `python -m pcclip.tools.spread FILE... [--output FILE]`.

Reads the `results.json` of each run and makes one Markdown table of means with the lowest and the highest run.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from pcclip.atomic import atomic_text
from pcclip.evaluation.protocol import Result
from pcclip.evaluation.tables import markdown_table, read_results

Name = tuple[str, str, str, str]  # model, task, subset, metric
Run = dict[Name, Result]


def read_run(file: str | Path) -> Run:
    """The rows of one `results.json` by name; raises as `read_results` does."""
    return {
        (model, result.task, result.subset, result.metric): result
        for model, results in read_results(file).items()
        for result in results
    }


def check_alike(runs: Mapping[str, Run]) -> None:
    """Refuse runs that did not measure the same models by the same metrics: their means would not be comparable.

    Args:
        runs: File name to its rows.

    Raises:
        ValueError: Naming the file, what it lacks, and a file that has it.
    """
    owner: dict[Name, str] = {}
    for file, run in runs.items():
        for name in run:
            owner.setdefault(name, file)
    for file, run in runs.items():
        missing = [name for name in owner if name not in run]
        if not missing:
            continue
        models = dict.fromkeys(model for model, *_ in missing)
        absent = [model for model in models if all(name[0] != model for name in run)]
        lacks = (
            f"no model {', '.join(map(repr, absent))}"
            if absent
            else f"{len(missing)} rows fewer: {'; '.join(map(_readable, missing[:3]))}"
            + (" and so on" if len(missing) > 3 else "")
        )
        example = next(name for name in missing if not absent or name[0] == absent[0])
        raise ValueError(f"{file}: {lacks}, which {owner[example]} has; give runs of the same experiment")


def spread(runs: Sequence[Run], metrics: Sequence[str] = ()) -> dict[str, list[Result]]:
    """Summarise runs that are alike, in the order of the first.

    Args:
        runs: At least one.
        metrics: Only these; all of them if empty.

    Returns:
        Model to rows, in which `value` is the mean over the runs, `low` and `high` the lowest and the highest run, and `n`
        the smallest. A number that one run leaves undefined is undefined (NaN).

    Raises:
        ValueError: A metric that no run has.
    """
    known = dict.fromkeys(result.metric for result in runs[0].values())
    if unknown := [metric for metric in metrics if metric not in known]:
        raise ValueError(f"no run has the metrics {unknown}; they have {', '.join(known)}")
    summary: dict[str, list[Result]] = {}
    for name, result in runs[0].items():
        if metrics and result.metric not in metrics:
            continue
        values = [run[name].value for run in runs]
        low, high = (math.nan, math.nan) if any(map(math.isnan, values)) else (min(values), max(values))
        n = min(run[name].n for run in runs)
        rows = summary.setdefault(name[0], [])
        rows.append(Result(result.task, result.subset, result.metric, fmean(values), n, low, high))
    return summary


def spread_text(runs: Sequence[Run], metrics: Sequence[str] = ()) -> str:
    """The table of `spread` as Markdown, under a line that says what it shows."""
    differs = any(len({run[name].n for run in runs}) > 1 for name in runs[0])
    caption = f"Mean [lowest, highest] of {len(runs)} runs."
    if differs:
        caption += " Where the runs differ in n, the smallest is given."
    return f"{caption}\n\n{markdown_table(spread(runs, metrics))}"


def replace_part(document: str, title: str, text: str) -> str:
    """Put `text` between the marks `<!-- spread:TITLE -->` and `<!-- /spread:TITLE -->`; all else stays as it is.

    The marks are appended to a document that has neither.

    Raises:
        ValueError: One mark is missing, comes twice, or they are in the wrong order.
    """
    begin, end = f"<!-- spread:{title} -->", f"<!-- /spread:{title} -->"
    part = f"{begin}\n\n{text.strip()}\n\n{end}"
    found = document.count(begin), document.count(end)
    if found == (0, 0):
        return f"{document.rstrip()}\n\n{part}\n".lstrip()
    if found != (1, 1) or document.index(begin) > document.index(end):
        raise ValueError(
            f"expected one {begin} and one {end} after it, found {found[0]} and {found[1]}"
            + (", in the wrong order" if found == (1, 1) else "")
            + "; mend the marks"
        )
    before, after = document[: document.index(begin)], document[document.index(end) + len(end) :]
    return f"{before}{part}{after}"


def write_part(file: str | Path, title: str, text: str) -> None:
    """`replace_part` of a file, which is made if need be, in one step so that no reader sees half of it.

    Raises:
        ValueError: As `replace_part`, naming the file.
    """
    file = Path(file)
    document = file.read_bytes().decode("utf-8") if file.is_file() else ""  # bytes: line ends stay as they are
    try:
        document = replace_part(document, title, text)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    with atomic_text(file) as stream:
        stream.write(document)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after an error that the user can mend."""
    options = _parser().parse_args(arguments)
    try:
        if "--" in options.title or not options.title.strip() or not options.title.isprintable():
            raise ValueError(f"--title {options.title!r}: must be one line of text without `--`, to stand in a comment")
        if twice := [file for file in options.files if options.files.count(file) > 1]:
            raise ValueError(f"{twice[0]}: given twice; give each run once")
        runs = {file: read_run(file) for file in options.files}
        check_alike(runs)
        text = spread_text(list(runs.values()), options.metrics)
        print(text, end="")
        if options.output is not None:
            write_part(options.output, options.title, text)
            print(f'written to {options.output}, part "{options.title}"')
    except (ValueError, OSError) as error:
        print(f"spread: error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pcclip.tools.spread",
        description="Make one table, mean [lowest, highest], of the results of several runs of one experiment.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="results.json of each run")
    parser.add_argument(
        "--output", metavar="FILE", help="Markdown file; only its part between the title's marks changes"
    )
    parser.add_argument(
        "--title", default="results", help="names the part: <!-- spread:TITLE --> (default: %(default)s)"
    )
    parser.add_argument(
        "--metrics", nargs="+", default=[], metavar="METRIC", help="only these, e.g. forced_choice top1"
    )
    return parser


def _readable(name: Name) -> str:
    model, *rest = name
    return f"{model} {'/'.join(part for part in rest if part)}"


if __name__ == "__main__":
    sys.exit(main())
