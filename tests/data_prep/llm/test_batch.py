"""Batch files: written, submitted, fetched and collected once each, wherever the run dies."""

import json
from typing import Any

import pytest
from openai.resources import Batches, Files

from data_prep.llm import batch_run
from tests.data_prep.llm.conftest import Capture, Describer, ids


@pytest.fixture
def describer(describer: Describer, monkeypatch: pytest.MonkeyPatch) -> Describer:
    monkeypatch.setattr(batch_run, "MOST_REQUESTS", 8)
    describer.backend = "batch"
    return describer


def check_whole(describer: Describer) -> None:
    assert describer.texts() == ids(*range(20))
    # each answer went to its own pair
    assert all(f"Cat {row['second'][1:]} again" in row["text"] for row in describer.rows())
    assert set(describer.server.asked.values()) == {1}
    assert (describer.manifest() or {})["counts"]["answered"] == 20


def answer_file(describer: Describer, number: int) -> None:
    """Do as another program does with a batch file."""
    file = describer.folder / f"differences.batch/{number:04d}.in.jsonl"
    file.with_name(f"{number:04d}.out.jsonl").write_bytes(describer.server.run_batch(file.read_bytes())[0])


def test_round_trip(describer: Describer, capsys: Capture) -> None:
    describer.write(20)
    describer.run(batch_poll=0.01)
    check_whole(describer)
    sizes = [
        len(describer.server.files[found["input_file_id"]].splitlines()) for found in describer.server.batches.values()
    ]
    assert sizes == [8, 8, 4]
    line = json.loads(describer.server.files["file-0"].splitlines()[0])
    assert (line["method"], line["url"], line["body"]["model"]) == ("POST", "/v1/chat/completions", "m")
    assert line["body"]["response_format"]["type"] == "json_schema"
    describer.run()
    assert "up to date" in capsys.readouterr().out


def test_bytes_bound_a_file_too(describer: Describer, monkeypatch: pytest.MonkeyPatch) -> None:
    describer.write(8)
    monkeypatch.setattr(batch_run, "MOST_BYTES", 9000)
    describer.run(batch_submit=False)
    sizes = [file.stat().st_size for file in describer.folder.glob("differences.batch/*.in.jsonl")]
    assert len(sizes) > 1
    assert max(sizes) <= 9000


@pytest.mark.parametrize(
    ("resource", "stage"), [(Files, "create"), (Batches, "create"), (Batches, "retrieve"), (Files, "content")]
)
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_stage_nothing_is_submitted_twice(
    describer: Describer, resource: type, stage: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    describer.write(20)
    original = getattr(resource, stage)
    calls: list[object] = []

    def dying(*given: Any, **named: Any) -> Any:
        calls.append(given)
        if len(calls) == 2 and not after:
            raise KeyboardInterrupt
        result = original(*given, **named)
        if len(calls) == 2:
            raise KeyboardInterrupt  # the endpoint has done it, but the answer is lost
        return result

    monkeypatch.setattr(resource, stage, dying)
    with pytest.raises(KeyboardInterrupt):
        describer.run(batch_poll=0.01)
    describer.run(batch_poll=0.01)
    check_whole(describer)
    assert len(describer.server.batches) == 3


def test_files_for_another_program(describer: Describer, capsys: Capture) -> None:
    describer.write(20)
    describer.run(batch_submit=False)
    assert "vllm run-batch -i" in capsys.readouterr().out
    for number in (1, 0, 2):
        answer_file(describer, number)
        describer.run(batch_submit=False)
    check_whole(describer)
    assert describer.server.files == {}


def test_errors_are_failures_by_reason(describer: Describer) -> None:
    describer.write(8)
    describer.run(batch_submit=False)
    answer_file(describer, 0)
    file = describer.folder / "differences.batch/0000.out.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["response"] = {"status_code": 500, "body": {"error": {"message": "broken"}}}
    rows[1] = {**rows[1], "response": None, "error": {"code": "batch_expired", "message": "too late"}}
    rows[2]["response"]["body"]["choices"][0]["finish_reason"] = "length"
    rows[3]["response"]["body"]["choices"][0]["message"]["content"] = '{"text": "the fir'
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    describer.run(batch_submit=False)
    reasons = {"p0": "http_500", "p1": "batch_expired", "p2": "length", "p3": "malformed", "p7": "no_answer"}
    assert describer.failures() == reasons
    describer.run(batch_submit=False, retry_failed=True)
    answer_file(describer, 1)
    describer.run(batch_submit=False, retry_failed=True)
    assert len(describer.texts()) == 8
    assert describer.failures() == {}


def test_files_of_other_settings_are_refused(describer: Describer) -> None:
    describer.write(8)
    describer.run(batch_submit=False)
    describer.fails("state.json", "differences.batch", batch_submit=False, model="n")
