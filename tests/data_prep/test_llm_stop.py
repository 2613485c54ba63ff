"""A run that brings nothing ends early, says why, and does not end with exit code 0."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data_prep import cli
from data_prep.llm import client, pace
from data_prep.llm.journal import Journal
from tests.data_prep.conftest import Rows
from tests.helpers.fault_server import Faults, FaultServer, running_server
from tests.helpers.pair_files import model_options, write_pairs

Read = Callable[[Path], Rows]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_BACKOFF", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with running_server() as running:
        yield running


def failures(folder: Path, read: Read) -> Rows:
    return read(folder / "differences.failures.jsonl")


@pytest.mark.parametrize(
    ("faults", "reason", "example"),
    [
        ({"share_odd": 1.0, "odd": ["html"]}, "malformed", "It works!"),
        ({"share_odd": 1.0, "odd": ["no_choices"]}, "malformed", "message"),
        ({"share_odd": 1.0, "odd": ["null_content"]}, "malformed", "text"),
        ({"share_odd": 1.0, "odd": ["two_line_refusal"]}, "malformed", "I am sorry"),
        ({"finish_reason": "content_filter"}, "content_filter", ""),
        ({"share_500": 1.0}, "http_500", ""),
        ({"share_disconnect": 1.0}, "connection", ""),
        ({"refuse": ["json_schema", "json_object", "text"]}, "bad_request", "not supported"),
    ],
)
def test_failures_of_any_kind_in_a_row_end_the_run(
    tmp_path: Path,
    server: FaultServer,
    read: Read,
    capsys: Capture,
    faults: dict[str, object],
    reason: str,
    example: str,
) -> None:
    write_pairs(tmp_path, 200)
    for name, value in faults.items():
        setattr(server.faults, name, value)
    options = model_options(tmp_path, server, attempts=2, concurrency=4, stop_after_failures=10)
    with pytest.raises(ValueError, match=r"differences\.failures\.jsonl.*retry_failed"):
        options.run()
    rows = failures(tmp_path, read)
    assert 10 <= len(rows) <= 14
    assert {row["reason"] for row in rows} == {reason}
    printed = capsys.readouterr().out
    assert f"{len(rows)} {reason}" in printed
    assert example in printed
    assert not (tmp_path / "differences.jsonl.manifest.json").exists()


def test_mixed_failures_count_together_and_an_answer_starts_the_count_again(
    tmp_path: Path, server: FaultServer, read: Read
) -> None:
    write_pairs(tmp_path, 60)
    verdict = server._verdict

    def nine_of_ten_fail(request: dict[str, object], headers: str, text: str) -> object:
        number = int(text.split("<")[1].split(">")[0])
        server.faults.share_odd = float(number % 10 != 9 and number % 2)
        server.faults.share_length = float(number % 10 != 9 and not number % 2)
        return verdict(request, headers, text)

    server._verdict = nine_of_ten_fail  # type: ignore[method-assign,assignment]
    server.faults.odd = ["html"]
    options = model_options(tmp_path, server, attempts=1, concurrency=1, stop_after_failures=10)
    options.run()
    assert len(read(tmp_path / "differences.jsonl")) == 6
    for file in tmp_path.glob("*differences*"):
        file.unlink()
    options.stop_after_failures = 9
    with pytest.raises(ValueError, match=r"differences\.failures\.jsonl"):
        options.run()
    assert {row["reason"] for row in failures(tmp_path, read)} == {"malformed", "length"}


def test_the_exit_code_says_that_nothing_was_answered(tmp_path: Path, server: FaultServer, capsys: Capture) -> None:
    write_pairs(tmp_path, 5)
    server.faults.odd, server.faults.share_odd = ["html"], 1.0
    section = {f"{name}": str(tmp_path / f"{name}.jsonl") for name in ("pairs", "captions")}
    section = {
        **section,
        "output": str(tmp_path / "d.jsonl"),
        "backend": "openai",
        "base_url": server.url,
        "model": "m",
    }
    (tmp_path / "config.yaml").write_text(json.dumps({"describe": section}))
    assert cli.main(["describe", "--config", str(tmp_path / "config.yaml")]) == 2
    assert "d.failures.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("concurrency", [1, 8, 64])
def test_an_endpoint_that_hangs_from_the_start_ends_the_run_soon(
    tmp_path: Path, server: FaultServer, concurrency: int
) -> None:
    write_pairs(tmp_path, 300)
    server.faults.share_hang = 1.0
    options = model_options(tmp_path, server, attempts=3, timeout=1.0, concurrency=concurrency)
    started = time.monotonic()
    with pytest.raises(ValueError, match=f"{server.port}.*timeout"):
        options.run()
    assert time.monotonic() - started < 60
    if concurrency > 1:  # else the first question has failed three times
        assert not (tmp_path / "differences.failures.jsonl").exists()
    server.faults.share_hang = 0.0
    options.limit = 5
    options.run()


def test_one_question_that_hangs_fails_alone(tmp_path: Path, server: FaultServer, read: Read) -> None:
    write_pairs(tmp_path, 12)
    verdict = server._verdict

    def third_hangs(request: dict[str, object], headers: str, text: str) -> object:
        server.faults.share_hang = float("<2>" in text.splitlines()[1])
        return verdict(request, headers, text)

    server._verdict = third_hangs  # type: ignore[method-assign,assignment]
    model_options(tmp_path, server, attempts=3, timeout=0.5, concurrency=1).run()
    assert [row["reason"] for row in failures(tmp_path, read)] == ["timeout"] * len(failures(tmp_path, read))
    assert len(read(tmp_path / "differences.jsonl")) >= 10


@pytest.mark.parametrize("share", ["share_429", "share_500"])
def test_a_long_retry_after_ends_the_run_with_the_time(tmp_path: Path, server: FaultServer, share: str) -> None:
    write_pairs(tmp_path, 30)
    setattr(server.faults, share, 1.0)
    server.faults.retry_after = "86400"
    if share == "share_500":
        server.faults.headers = "Retry-After: 86400\r\n"
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"86400 s.*longest_wait"):
        model_options(tmp_path, server).run()
    assert time.monotonic() - started < 60
    assert not (tmp_path / "differences.failures.jsonl").exists()


def test_a_wait_is_reported_at_once_and_once(
    tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(client, "REPORTED_WAIT", 1.0)
    write_pairs(tmp_path, 30)
    verdict = server._verdict
    before: list[object] = []

    def first_eight_are_limited(*given: object) -> object:
        before.append(given)
        server.faults.share_429 = float(len(before) <= 8)
        return verdict(*given)  # type: ignore[arg-type]

    server._verdict = first_eight_are_limited  # type: ignore[method-assign,assignment]
    server.faults.retry_after = "1.2"
    model_options(tmp_path, server, concurrency=8).run()
    waits = [line for line in capsys.readouterr().out.splitlines() if "waiting" in line]
    assert len(waits) == 1
    assert f"{server.port}" in waits[0]
    assert "1 s" in waits[0]


def test_an_unknown_image_is_found_before_anything_is_paid_for(tmp_path: Path, server: FaultServer) -> None:
    write_pairs(tmp_path, 50)
    pairs, captions = tmp_path / "pairs.jsonl", tmp_path / "captions.jsonl"
    whole = pairs.read_text(), captions.read_text()
    pairs.write_text(whole[0].replace('"i50"', '"i77"'))
    with pytest.raises(ValueError, match=r"pairs\.jsonl, line 50: `second` is 'i77'.*captions\.jsonl"):
        model_options(tmp_path, server, concurrency=1).run()
    pairs.write_text(whole[0])
    captions.write_text(whole[1].replace('["Picture <50> of a cat.", "Cat 50 again."]', "[]"))
    with pytest.raises(ValueError, match=r"captions\.jsonl: image 'i50'"):
        model_options(tmp_path, server, concurrency=1).run()
    assert server.asked == {}
    captions.write_text(whole[1])
    model_options(tmp_path, server).run()


def test_questions_are_checked_again_when_anything_changed(
    tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pairs(tmp_path, 6)
    output, captions = tmp_path / "differences.jsonl", tmp_path / "captions.jsonl"
    for _ in range(2):
        model_options(tmp_path, server, limit=2).run()
    rows = output.read_text().splitlines(keepends=True)
    other = json.dumps({**json.loads(rows[0]), "key": json.loads(rows[1])["key"]}) + "\n"
    output.unlink()
    output.write_text(other + "".join(rows[1:]))  # another file
    with pytest.raises(ValueError, match=r"differences\.jsonl: pair_id 'p0'"):
        model_options(tmp_path, server).run()
    output.write_text("".join(rows))
    whole = captions.read_text()
    captions.write_text(whole.replace("<0>", "<zero>"))
    with pytest.raises(ValueError, match=r"differences\.jsonl: pair_id 'p0'"):
        model_options(tmp_path, server).run()
    captions.write_text(whole)
    with pytest.raises(ValueError, match=r"differences\.jsonl: pair_id"):
        model_options(tmp_path, server, captions_per_image=1).run()
    model_options(tmp_path, server).run()
    assert set(server.asked.values()) == {1}
    assert not [file for file in tmp_path.iterdir() if "checked" in file.name]


def test_an_endpoint_that_is_down_ends_the_run(tmp_path: Path, read: Read) -> None:
    write_pairs(tmp_path, 200)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # holds a port on which nobody listens
        server = FaultServer(Faults())
        server.port = silent.getsockname()[1]
        options = model_options(tmp_path, server, attempts=2, concurrency=4, stop_after_failures=20)
        with pytest.raises(ValueError, match=r"differences\.failures\.jsonl.*retry_failed=true"):
            options.run()
    assert len(read(tmp_path / "differences.failures.jsonl")) < 30


def test_endless_rate_limits_end_the_run(tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RATE_LIMITS_IN_A_ROW", 3)
    write_pairs(tmp_path, 9)
    server.faults.share_429, server.faults.retry_after = 1.0, "0.01"
    with pytest.raises(ValueError, match=r"\d requests in a row were answered 429 .*requests_per_minute"):
        model_options(tmp_path, server, concurrency=2).run()


def test_a_run_in_which_every_question_fails_after_earlier_answers_is_an_error(
    tmp_path: Path, read: Read, server: FaultServer
) -> None:
    write_pairs(tmp_path, 30)
    model_options(tmp_path, server, limit=5).run()
    with (
        running_server(Faults(share_500=1.0)) as broken,
        pytest.raises(ValueError, match=r"differences\.failures\.jsonl"),
    ):
        model_options(tmp_path, broken, attempts=1).run()
    assert len(read(tmp_path / "differences.jsonl")) == 5
    assert len(failures(tmp_path, read)) == 25


def test_an_output_replaced_during_the_run_is_not_up_to_date_and_its_answers_are_kept(
    tmp_path: Path, read: Read, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pairs(tmp_path, 12)
    output = tmp_path / "differences.jsonl"
    answered = Journal.answered

    def and_replace(journal: Journal, row: dict[str, Any]) -> None:
        answered(journal, row)
        lines = output.read_text().splitlines(keepends=True)
        if len(lines) == 6:
            (tmp_path / "draft").write_text("".join(lines[1:]))
            (tmp_path / "draft").replace(output)

    options = model_options(tmp_path, server)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "answered", and_replace)
        with pytest.raises(ValueError, match=r"differences\.jsonl"):
            options.run()
    assert not (tmp_path / "differences.jsonl.manifest.json").exists()
    asked = server.asked.total()
    options.run()
    assert server.asked.total() == asked
    assert len(read(output)) == 12
