"""Worker processes end with the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = """
import os, sys, time
from pathlib import Path
from data_prep.workers import worker_pool
def wait(folder):
    (Path(folder) / f"{os.getpid()}.worker").touch()
    time.sleep(60)
if __name__ == "__main__":
    with worker_pool(2) as pool:
        list(pool.map(wait, [sys.argv[1]] * 2))
"""


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        wait_until(lambda: len(list(tmp_path.glob("*.worker"))) == 2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    workers = [int(file.stem) for file in tmp_path.glob("*.worker")]
    wait_until(lambda: not any(map(is_running, workers)))
