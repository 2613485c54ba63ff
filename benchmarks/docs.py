"""Put what the benchmarks last measured into docs/benchmarks.md: `python -m benchmarks.docs`.

Each `runs/benchmarks/NAME.json` goes between that page's marks `<!-- spread:NAME -->`; the rest of the page stays as it is.
"""

import json
import sys
from pathlib import Path

from benchmarks.common import RESULTS
from benchmarks.measure import table
from pcclip.experiments.spread import write_part

PAGE = Path("docs/benchmarks.md")


def part(file: Path) -> str:
    """A benchmark's table under a line that says where it was measured."""
    content = json.loads(file.read_text(encoding="utf-8"))
    machine = ", ".join(f"{key} {value}" for key, value in content["machine"].items() if value is not None)
    return f"{table(content['rows'])}\n\nMeasured on: {machine}."


def main() -> int:
    """Insert every result there is."""
    files = sorted(RESULTS.glob("*.json"))
    if not files:
        print(f"{RESULTS}: no results; run `make bench` first", file=sys.stderr)
        return 2
    for file in files:
        write_part(PAGE, file.stem, part(file))
        print(f"{PAGE}: {file.stem}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
