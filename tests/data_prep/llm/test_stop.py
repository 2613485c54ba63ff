"""A run that brings nothing ends early, says why, and does not end with exit code 0."""

import socket
import time

import pytest

from data_prep.llm import client
from tests.data_prep.llm.conftest import Capture, Describer
from tests.helpers.fault_server import Faults, FaultServer, running_server


def test_mixed_failures_count_together_and_an_answer_resets_the_count(describer: Describer) -> None:
    describer.write(60)

    def nine_of_ten_fail(text: str) -> None:
        number = int(text.split("<")[1].split(">")[0])
        describer.server.faults.share_odd = float(number % 10 != 9 and number % 2)
        describer.server.faults.share_length = float(number % 10 != 9 and not number % 2)

    describer.server.on_question, describer.server.faults.odd = nine_of_ten_fail, ["html"]
    describer.run(attempts=1, concurrency=1, stop_after_failures=10)
    assert len(describer.texts()) == 6
    for file in describer.folder.glob("*differences*"):
        file.unlink()
    describer.fails(attempts=1, concurrency=1, stop_after_failures=9)
    assert set(describer.failures().values()) == {"malformed", "length"}


@pytest.mark.parametrize("concurrency", [1, 64])
def test_an_endpoint_that_hangs_from_the_start_ends_the_run_soon(describer: Describer, concurrency: int) -> None:
    describer.write(300)
    describer.server.faults.share_hang = 1.0
    started = time.monotonic()
    describer.fails(str(describer.server.port), "timeout", attempts=3, timeout=0.3, concurrency=concurrency)
    assert time.monotonic() - started < 60
    assert len(describer.failures()) == (concurrency == 1)  # with one worker the first question has failed
    describer.server.faults.share_hang = 0.0
    describer.run(limit=5)


def test_one_question_that_hangs_fails_alone(describer: Describer) -> None:
    describer.write(5)

    def hang(text: str) -> None:
        describer.server.faults.share_hang = float("<2>" in text.splitlines()[1])

    describer.server.on_question = hang
    describer.run(attempts=2, timeout=0.7, concurrency=1)
    assert describer.failures()["p2"] == "timeout"
    assert len(describer.texts()) >= 3


@pytest.mark.parametrize("share", ["share_429", "share_500"])
def test_a_long_retry_after_ends_the_run_with_the_time(describer: Describer, share: str) -> None:
    describer.write(30)
    setattr(describer.server.faults, share, 1.0)
    describer.server.faults.retry_after = "86400"
    if share == "share_500":
        describer.server.faults.headers = "Retry-After: 86400\r\n"
    started = time.monotonic()
    describer.fails("86400 s", "longest_wait")
    assert time.monotonic() - started < 60
    assert describer.failures() == {}


def test_a_wait_is_reported_at_once_and_once(
    describer: Describer, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(client, "REPORTED_WAIT", 1.0)
    describer.write(30)

    def limit_the_first_eight(text: str) -> None:
        describer.server.faults.share_429 = float(describer.server.asked.total() <= 8)

    describer.server.on_question, describer.server.faults.retry_after = limit_the_first_eight, "1.2"
    describer.run(concurrency=8)
    waits = [line for line in capsys.readouterr().out.splitlines() if "waiting" in line]
    assert len(waits) == 1
    assert str(describer.server.port) in waits[0]
    assert "1 s" in waits[0]


def test_an_endpoint_that_is_down_ends_the_run(describer: Describer) -> None:
    describer.write(200)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # holds a port on which nobody listens
        describer.server = FaultServer(Faults())
        describer.server.port = silent.getsockname()[1]
        describer.fails(attempts=2, concurrency=4, stop_after_failures=20)
    assert len(describer.failures()) < 30


def test_endless_rate_limits_end_the_run(describer: Describer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RATE_LIMITS_IN_A_ROW", 3)
    describer.write(9)
    describer.server.faults.share_429, describer.server.faults.retry_after = 1.0, "0.01"
    describer.fails("429", "requests_per_minute", concurrency=2)


def test_a_run_in_which_every_question_fails_after_earlier_answers_is_an_error(describer: Describer) -> None:
    describer.write(30)
    describer.run(limit=5)
    with running_server(Faults(share_500=1.0)) as describer.server:
        describer.fails(attempts=1)
    assert len(describer.texts()) == 5
    assert len(describer.failures()) == 25
