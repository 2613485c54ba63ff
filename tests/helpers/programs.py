"""Command lines of shell scripts and of the Makefile, run in this process: imports would take longer than the work."""

import os
import subprocess
from pathlib import Path

from joblib import parallel_config

from data_prep.cli import main as pcclip_data
from pcclip.cli import main as pcclip
from pcclip.experiments.__main__ import main as experiments

STAND_IN = """#!/usr/bin/env bash
printf '%s\\0' "${0##*/}" "$@" >> "$RECORD"
echo >> "$RECORD"
"""


def run(program: str, *arguments: str) -> None:
    """Run one of the programs in the working directory; it may leave, but only with success."""
    if program == "python":
        assert arguments[:2] == ("-m", "pcclip.experiments")
        main, arguments = experiments, arguments[2:]
    else:
        main = {"pcclip": pcclip, "pcclip-data": pcclip_data}[program]
    try:
        # joblib would keep its processes for the next program, in this one's working directory
        with parallel_config(backend="sequential"):
            code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    assert not code, f"{program} {' '.join(arguments)}: left with {code}"


def run_script(folder: Path, *script: str, **environment: str) -> None:
    """Run the programs that a script calls in the working directory, in their order.

    The script itself runs first, with stand-ins that write down how they are called. None may read what another one wrote.

    Args:
        folder: Where the stand-ins are made. The script finds it as `$BIN` and in `$PATH`.
        script: The script's command line.
        environment: Further variables.
    """
    folder.mkdir()
    for name in ("pcclip", "pcclip-data", "python"):
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    record = folder / "record"
    found = {"BIN": str(folder), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "RECORD": str(record)}
    done = subprocess.run(
        script, env={**os.environ, **found, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in record.read_text().split("\0\n")[:-1]:
        run(*line.split("\0"))
