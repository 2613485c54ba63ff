"""Killed at any moment and started again, no answer that was written is asked for again, and none is missing at the end."""

import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from data_prep.cli import main
from tests.data_prep.llm.conftest import Describer
from tests.helpers.fault_server import Faults, running_server
from tests.helpers.pair_files import pair_of
from tests.helpers.processes import start

PAIRS = 400
CONCURRENCY = 16
KILLS = 3
KEY = "sk-very-secret-0123456789"


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    printed = tmp_path / "printed.txt"
    faults = Faults(0.02, 0.1, "0.05", 0.05, 0.02, 0.03, 0.02, 0.02, share_odd=0.1)
    rng = random.Random(0)
    with running_server(faults) as server:
        describer = Describer(tmp_path, server)
        describer.write(PAIRS)
        arguments = describer.arguments(concurrency=CONCURRENCY, timeout=3.0)

        def describe() -> BaseProcess:
            return start(main, arguments, printed=printed, OPENAI_API_KEY=KEY)

        def kill_after(process: BaseProcess, requests: int) -> None:
            while server.asked.total() < requests and process.is_alive():
                time.sleep(0.001)
            process.kill()
            process.join()

        def settled() -> set[str]:
            return describer.texts() | set(describer.failures())

        for _ in range(KILLS):
            kill_after(describe(), server.asked.total() + rng.randint(20, 90))
            done, asked = settled(), server.asked.copy()
            with describer.output.open("a") as stream:
                stream.write('{"pair_id": "p1", "text": "half a ro')  # what a power cut may leave
            server.asked.clear()
            kill_after(describe(), 10)
            assert len(server.asked) > 0
            assert not {pair_of(question) for question in server.asked} & done
            server.asked.update(asked)
        done = settled()
        server.asked.clear()
        last = describe()
        last.join(120)
        assert last.exitcode == 0, printed.read_text()
        assert not {pair_of(question) for question in server.asked} & done
        texts, failed = describer.texts(), set(describer.failures())
        assert texts | failed == {f"p{i}" for i in range(PAIRS)}
        assert not texts & failed
        # beyond one answer each, only what was under way at a kill can have been answered twice
        assert server.answered.total() - len(server.answered) <= 2 * KILLS * CONCURRENCY
    assert "incomplete last row" in printed.read_text()
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.iterdir())
