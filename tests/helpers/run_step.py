"""Running the command in a process that a test may kill, with what it prints in a file."""

import os
import sys
from pathlib import Path

from data_prep.cli import main


def run_step(arguments: list[str], printed: Path, environment: dict[str, str]) -> None:
    """`pcclip-data ARGUMENTS`; stdout and stderr are appended to `printed`."""
    descriptor = os.open(printed, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    sys.exit(main(arguments))
