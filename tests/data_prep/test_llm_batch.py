"""Batch files: written, submitted, fetched and collected once each, wherever the run dies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data_prep.llm import batch
from data_prep.llm.batch_api import BatchEndpoint
from data_prep.steps import describe
from tests.data_prep.conftest import Rows
from tests.helpers.fault_server import FaultServer, running_server
from tests.helpers.pair_files import model_options, write_pairs

Read = Callable[[Path], Rows]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with running_server() as running:
        yield running


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_REQUESTS", 8)


def options(folder: Path, server: FaultServer, **given: object) -> describe.Describe:
    return model_options(folder, server, backend="batch", batch_poll=0.01, **given)


def check_whole(folder: Path, server: FaultServer, read: Read) -> None:
    rows = read(folder / "differences.jsonl")
    assert sorted(row["pair_id"] for row in rows) == sorted(f"p{i}" for i in range(20))
    assert all(f"Picture <{row['first'][1:]}>" not in row["text"] or row["first"] in "i" for row in rows)
    assert all(f"Cat {row['second'][1:]} again" in row["text"] for row in rows)  # each answer went to its own pair
    assert set(server.asked.values()) == {1}
    assert json.loads((folder / "differences.jsonl.manifest.json").read_text())["counts"]["answered"] == 20


def test_round_trip(tmp_path: Path, server: FaultServer, read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    write_pairs(tmp_path, 20)
    options(tmp_path, server).run()
    check_whole(tmp_path, server, read)
    sizes = [len(server.files[found["input_file_id"]].splitlines()) for found in server.batches.values()]
    assert sizes == [8, 8, 4]
    line = json.loads(server.files["file-0"].splitlines()[0])
    assert (line["method"], line["url"], line["body"]["model"]) == ("POST", "/v1/chat/completions", "m")
    assert line["body"]["response_format"]["type"] == "json_schema"
    options(tmp_path, server).run()
    assert "up to date" in capsys.readouterr().out


def test_bytes_bound_a_file_too(tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(tmp_path, 8)
    monkeypatch.setattr(batch, "MOST_BYTES", 9000)
    options(tmp_path, server, batch_submit=False).run()
    sizes = [file.stat().st_size for file in sorted((tmp_path / "differences.batch").glob("*.in.jsonl"))]
    assert len(sizes) > 1
    assert max(sizes) <= 9000


@pytest.mark.parametrize("stage", ["upload", "submit", "finished", "download"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_stage_nothing_is_submitted_twice(
    tmp_path: Path, server: FaultServer, read: Read, stage: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pairs(tmp_path, 20)
    original = getattr(BatchEndpoint, stage)
    calls: list[object] = []

    def dying(*given: object) -> object:
        calls.append(given)
        if len(calls) == 2 and not after:
            raise KeyboardInterrupt
        result = original(*given)
        if len(calls) == 2:
            raise KeyboardInterrupt  # the endpoint has done it, but nobody heard
        return result

    monkeypatch.setattr(BatchEndpoint, stage, dying)
    with pytest.raises(KeyboardInterrupt):
        options(tmp_path, server).run()
    options(tmp_path, server).run()
    check_whole(tmp_path, server, read)
    assert len(server.batches) == 3


def test_files_for_another_program(
    tmp_path: Path, server: FaultServer, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path, 20)
    given = options(tmp_path, server, batch_submit=False)
    given.run()
    assert "vllm run-batch -i" in capsys.readouterr().out
    folder = tmp_path / "differences.batch"
    for name in ("0001", "0000", "0002"):
        (folder / f"{name}.out.jsonl").write_bytes(server.run_batch((folder / f"{name}.in.jsonl").read_bytes())[0])
        given.run()
    check_whole(tmp_path, server, read)
    assert server.files == {}


def test_errors_are_failures_by_reason(tmp_path: Path, server: FaultServer, read: Read) -> None:
    write_pairs(tmp_path, 8)
    given = options(tmp_path, server, batch_submit=False)
    given.run()
    folder = tmp_path / "differences.batch"
    rows = [json.loads(line) for line in server.run_batch((folder / "0000.in.jsonl").read_bytes())[0].splitlines()]
    rows[0]["response"] = {"status_code": 500, "body": {"error": {"message": "broken"}}}
    rows[1] = {**rows[1], "response": None, "error": {"code": "batch_expired", "message": "too late"}}
    rows[2]["response"]["body"]["choices"][0]["finish_reason"] = "length"
    rows[3]["response"]["body"]["choices"][0]["message"]["content"] = '{"text": "the fir'
    (folder / "0000.out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    given.run()
    failures = {row["pair_id"]: row["reason"] for row in read(tmp_path / "differences.failures.jsonl")}
    assert failures == {
        "p0": "http_500",
        "p1": "batch_expired",
        "p2": "length",
        "p3": "malformed",
        "p7": "no_answer",
    }
    given.retry_failed = True
    given.run()
    (folder / "0001.out.jsonl").write_bytes(server.run_batch((folder / "0001.in.jsonl").read_bytes())[0])
    given.run()
    assert len(read(tmp_path / "differences.jsonl")) == 8
    assert not (tmp_path / "differences.failures.jsonl").exists()


def test_files_of_other_settings_are_refused(tmp_path: Path, server: FaultServer) -> None:
    write_pairs(tmp_path, 8)
    options(tmp_path, server, batch_submit=False).run()
    with pytest.raises(ValueError, match=r"state.json: written with other settings .*delete .*differences.batch"):
        options(tmp_path, server, batch_submit=False, model="n").run()
