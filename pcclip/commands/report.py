"""`pcclip report`."""

from dataclasses import dataclass
from typing import ClassVar

from pcclip.commands.command import Command


@dataclass(kw_only=True)
class Report(Command):
    """Turn the results of runs into one HTML page: tables with intervals, the alpha trade-off, pictures as ranked."""

    positional: ClassVar[dict[str, str]] = {"runs": "folders of runs, such as runs/demo, or results.json files"}

    runs: list[str]
    output: str = "report.html"
    """HTML file."""
    overwrite: bool = False
    """Replace output that exists."""

    def run(self) -> None:
        """Read the results and write the page."""
        from pcclip.atomic import atomic_text
        from pcclip.reports.report import find_results, report_page
        from pcclip.tools.output import new_file

        output = new_file(self.output, ".html", self.overwrite)
        files = find_results(self.runs)
        page = report_page(files)
        with atomic_text(output) as stream:
            stream.write(page)
        print(f"{len(files)} runs: {output}")
