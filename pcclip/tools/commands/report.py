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
    from pcclip.tools.output import check_writable, whole_file
    from pcclip.tools.report import find_results, read_report, report_page

    check_writable(options.output)
    files = find_results(options.runs)
    page = report_page([read_report(file) for file in files], files)
    with whole_file(options.output) as path:
        path.write_text(page, encoding="utf-8")
    print(f"{len(files)} runs: {options.output}")
