"""A response that is not what the protocol says fails its own question, and stops neither the run nor the next one."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data_prep.llm import client, pace
from data_prep.steps import class_texts
from tests.data_prep.conftest import Rows
from tests.helpers.fault_server import FaultServer, running_server
from tests.helpers.odd_replies import GOOD, ODD_USAGE, USELESS, completion
from tests.helpers.pair_files import model_options, write_pairs

Read = Callable[[Path], Rows]
REASONS = {"malformed", "refusal"}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(pace, "LONGEST_BACKOFF", 0.02)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with running_server() as running:
        yield running


def outcome(folder: Path, read: Read) -> tuple[set[str], dict[str, str]]:
    failures = folder / "differences.failures.jsonl"
    rows = read(failures) if failures.exists() else []
    return {row["pair_id"] for row in read(folder / "differences.jsonl")}, {
        row["pair_id"]: row["reason"] for row in rows
    }


def odd_for_some(server: FaultServer) -> None:
    """Answer the questions on pairs 0, 5, 10 ... by odd responses."""
    verdict = server._verdict

    def some(request: dict[str, object], headers: str, text: str) -> object:
        server.faults.share_odd = float(int(text.split("<")[1].split(">")[0]) % 5 == 0)
        return verdict(request, headers, text)

    server._verdict = some  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize("name", USELESS)
def test_a_useless_response_fails_its_own_question_once_and_for_all(
    tmp_path: Path, server: FaultServer, read: Read, name: str
) -> None:
    write_pairs(tmp_path, 15)
    server.faults.odd = [name]
    odd_for_some(server)
    options = model_options(tmp_path, server, attempts=2, concurrency=4, timeout=5)
    started = time.monotonic()
    options.run()
    assert time.monotonic() - started < 120
    texts, failures = outcome(tmp_path, read)
    assert set(failures) == {"p0", "p5", "p10"}
    assert set(failures.values()) <= REASONS
    assert texts == {f"p{i}" for i in range(15)} - set(failures)
    asked = server.asked.copy()
    options.run()
    (tmp_path / "differences.jsonl.manifest.json").unlink()
    with (tmp_path / "differences.jsonl").open("rb+") as stream:
        stream.truncate(stream.seek(-10, 2))  # a torn last row is asked again, nothing else
    options.run()
    assert sum((server.asked - asked).values()) == 1
    assert outcome(tmp_path, read) == (texts, failures)


def test_odd_usage_keeps_the_answer(tmp_path: Path, server: FaultServer, read: Read) -> None:
    write_pairs(tmp_path, 60)
    server.faults.odd, server.faults.share_odd = list(ODD_USAGE), 1.0
    model_options(tmp_path, server).run()
    assert len(read(tmp_path / "differences.jsonl")) == 60
    assert len(server.kinds) > 5
    for row in read(tmp_path / "differences.jsonl"):
        assert 0 < row["prompt_tokens"] < 1000
        assert 0 < row["completion_tokens"] <= 50


@pytest.mark.parametrize("name", ["usage_negative", "usage_missing", "usage_infinity", "html"])
def test_odd_usage_does_not_defeat_max_cost(tmp_path: Path, server: FaultServer, read: Read, name: str) -> None:
    write_pairs(tmp_path, 200)
    server.faults.odd, server.faults.share_odd = [name], 1.0
    prices = {"price_per_million_input": 1.0, "price_per_million_output": 1.0}
    options = model_options(
        tmp_path, server, max_cost=0.01, concurrency=2, attempts=1, stop_after_failures=None, **prices
    )
    if name == "html":
        with pytest.raises(ValueError, match=r"differences\.failures\.jsonl"):
            options.run()
    else:
        options.run()
    assert 10 < sum(server.asked.values()) < 70  # about 170 prompt tokens each, and 400 set aside


@pytest.mark.parametrize("name", [*USELESS, *ODD_USAGE])
def test_batch_files_with_such_responses_are_collected(
    tmp_path: Path, server: FaultServer, read: Read, name: str
) -> None:
    write_pairs(tmp_path, 12)
    server.faults.odd = [name]
    odd_for_some(server)
    options = model_options(tmp_path, server, backend="batch", batch_poll=0.01)
    options.run()
    texts, failures = outcome(tmp_path, read)
    odd = {"p0", "p5", "p10"}
    assert set(failures) == (odd if name in USELESS else set())
    assert set(failures.values()) <= {*REASONS, "no_answer"}
    assert texts == {f"p{i}" for i in range(12)} - set(failures)
    options.run()
    assert set(server.asked.values()) == {1}
    assert all(0 < row["prompt_tokens"] < 1000 for row in read(tmp_path / "differences.jsonl"))


def test_a_batch_row_of_odd_errors_is_a_failure(tmp_path: Path, server: FaultServer, read: Read) -> None:
    write_pairs(tmp_path, 8)
    given = model_options(tmp_path, server, backend="batch", batch_submit=False)
    given.run()
    folder = tmp_path / "differences.batch"
    rows = [json.loads(line) for line in (folder / "0000.in.jsonl").read_text().splitlines()]
    errors = ["text", ["list"], {"code": 5, "message": {"a": []}}, {"error": "text"}, {"code": "x\ud83d"}, 1e999, True]
    rows = [{"custom_id": row["custom_id"], "error": error} for row, error in zip(rows, errors, strict=False)]
    (folder / "0000.out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"differences\.failures\.jsonl"):
        given.run()
    failures = {row["pair_id"]: row["reason"] for row in read(tmp_path / "differences.failures.jsonl")}
    assert failures == {**{f"p{i}": "http_none" for i in range(7)}, "p4": "x?", "p7": "no_answer"}


def test_a_compressed_response_cannot_fill_the_memory(tmp_path: Path, server: FaultServer, read: Read) -> None:
    write_pairs(tmp_path, 3)
    server.faults.headers, server.faults.odd, server.faults.share_odd = "Content-Encoding: gzip\r\n", ["bomb"], 1.0
    bodies = {"bomb": gzip.compress(b" " * 100_000_000), "good": gzip.compress(completion(GOOD))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.helpers.fault_server.USELESS", bodies)
        with pytest.raises(ValueError, match=r"differences\.failures\.jsonl"):
            model_options(tmp_path, server, attempts=1).run()
        assert {row["reason"] for row in read(tmp_path / "differences.failures.jsonl")} == {"malformed"}
        server.faults.odd = ["good"]
        model_options(tmp_path, server, retry_failed=True).run()
    assert len(read(tmp_path / "differences.jsonl")) == 3


@pytest.mark.parametrize("status", [400, 429, 500])
def test_errors_may_hold_anything_too(
    tmp_path: Path, server: FaultServer, read: Read, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(client, "RATE_LIMITS_IN_A_ROW", 100)
    write_pairs(tmp_path, 23)
    names = list(USELESS)
    bodies = iter(USELESS.values())
    server._chat = lambda *_: (  # type: ignore[method-assign]
        ("ok", status, body, "") if (body := next(bodies, None)) is not None else ("ok", 200, completion(GOOD), "")
    )
    model_options(tmp_path, server, attempts=len(names) + 2, answer_format="json_object", concurrency=1).run()
    texts, failures = outcome(tmp_path, read)
    assert len(texts) + len(failures) == 23
    assert len(failures) == (len(names) - 1 if status == 400 else 0)  # the one that is too long is asked again


def test_names_that_are_not_unicode_fail_alone(tmp_path: Path, server: FaultServer, read: Read) -> None:
    pairs, output = tmp_path / "pairs.jsonl", tmp_path / "d.jsonl"
    pairs.write_text(r'{"first": "cat", "second": "half \ud83d"}' + '\n{"first": "cat", "second": "dog"}\n')
    class_texts.ClassTexts(output=str(output), pairs=str(pairs), base_url=server.url, model="m").run()
    assert [row["second"] for row in read(output)] == ["dog"]
    assert [row["reason"] for row in read(tmp_path / "d.failures.jsonl")] == ["bad_text"]


def test_class_texts_take_no_refusal_for_a_text(tmp_path: Path, server: FaultServer, read: Read) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\nfox\n")
    verdict = server._verdict

    def refuse_dogs(request: dict[str, object], headers: str, text: str) -> object:
        server.faults.content = "I am sorry, I cannot describe that." if "dog" in text else ""
        return verdict(request, headers, text)

    server._verdict = refuse_dogs  # type: ignore[method-assign,assignment]
    output = tmp_path / "d.jsonl"
    class_texts.ClassTexts(
        output=str(output), classes=str(tmp_path / "names.txt"), base_url=server.url, model="m"
    ).run()
    assert sorted(row["name"] for row in read(output)) == ["cat", "fox"]
    assert [row["name"] for row in read(tmp_path / "d.failures.jsonl")] == ["dog"]
