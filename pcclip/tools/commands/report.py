"""Turn the results of runs into one HTML page: tables with intervals, the alpha trade-off, pictures as ranked."""

from __future__ import annotations

import argparse

from pcclip.tools.commands.common import add_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders of runs, such as runs/demo, or results.json files"
    )
    add_output(parser, "report.html", "HTML page")


def run(options: argparse.Namespace) -> None:
    """Read, and write the page."""
    from pcclip.atomic import atomic_text
    from pcclip.reports.report import find_results, report_page
    from pcclip.tools.output import new_file

    output = new_file(options.output, ".html", options.overwrite)
    files = find_results(options.runs)
    page = report_page(files)
    with atomic_text(output) as stream:
        stream.write(page)
    print(f"{len(files)} runs: {output}")
