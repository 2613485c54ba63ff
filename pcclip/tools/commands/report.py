"""Turn the results of runs into one HTML page: tables with intervals, the alpha trade-off, pictures as ranked."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders of runs, such as runs/demo, or results.json files"
    )
    parser.add_argument("--output", default="report.html", metavar="FILE", help="(default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Read, and write the page."""
    from pcclip.atomic import atomic_text
    from pcclip.reports.report import find_results, report_page
    from pcclip.tools.output import check_writable

    check_writable(options.output)
    files = find_results(options.runs)
    page = report_page(files)
    with atomic_text(options.output) as stream:
        stream.write(page)
    print(f"{len(files)} runs: {options.output}")
