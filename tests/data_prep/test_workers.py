"""Work in several processes: order, errors, dead workers, a killed parent, and joblib's other backends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.workers import in_order

SCRIPT = """
import os, sys, time
from pathlib import Path
from data_prep.workers import in_order
def wait(folder):
    (Path(folder) / f"{os.getpid()}.worker").touch()
    time.sleep(60)
if __name__ == "__main__":
    list(in_order(wait, [sys.argv[1]] * 2, 2, "workers"))
"""


def slow_at_first(number: int) -> tuple[int, int]:
    time.sleep(0.2 if number == 0 else 0)
    if number == 50:
        raise ValueError("rows.jsonl, line 50: no number")
    return number, os.getpid()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order(workers: int) -> None:
    found = list(in_order(slow_at_first, range(20), workers, "screen.workers"))
    assert [number for number, _ in found] == list(range(20))
    assert (os.getpid() in {process for _, process in found}) is (workers < 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_come_out_of_workers_as_they_are(workers: int) -> None:
    with pytest.raises(ValueError, match=r"^rows.jsonl, line 50: no number$"):
        list(in_order(slow_at_first, range(60), workers, "screen.workers"))


def test_a_dead_worker_is_reported() -> None:
    with pytest.raises(ChildProcessError, match=r"shard\.workers"):
        list(in_order(os._exit, [9, 9], 2, "shard.workers"))


CLUSTER = """
import os
from joblib import parallel_config
from distributed import Client, LocalCluster
from data_prep.workers import in_order
def process_of(number):
    return number, os.getpid()
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        workers = {worker.pid for worker in cluster.workers.values()}
        with parallel_config(backend="dask"):
            found = list(in_order(process_of, range(40), 2, "screen.workers"))
    assert [number for number, _ in found] == list(range(40))
    assert {process for _, process in found} <= workers
"""


@pytest.mark.slow
def test_a_cluster_does_the_work_by_configuration_alone(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    (tmp_path / "script.py").write_text(CLUSTER)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, str(tmp_path / "script.py")], env=environment, check=True, timeout=240)


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
