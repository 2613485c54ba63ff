"""`pcclip report`: one HTML page on the results of runs."""

from pcclip.atomic import atomic_text
from pcclip.commands.options import Report
from pcclip.reports.report import find_results, report_page
from pcclip.tools.output import claim


def run(options: Report) -> None:
    """Read the results and write the page."""
    output = claim(options.output, options.overwrite, ".html")
    files = find_results(options.runs)
    page = report_page(files)
    with atomic_text(output) as stream:
        stream.write(page)
    print(f"{len(files)} {'run' if len(files) == 1 else 'runs'}: {output}")
