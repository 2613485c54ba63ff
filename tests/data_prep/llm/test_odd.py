"""A response that is not what the protocol says fails its own question, and stops neither the run nor the next one."""

import gzip
import json
from pathlib import Path

import pytest

from data_prep.llm import client
from data_prep.steps.class_texts import ClassTexts
from tests.data_prep.conftest import Read
from tests.data_prep.llm.conftest import Describer, ids
from tests.helpers.fault_server import FaultServer
from tests.helpers.odd_replies import GOOD, ODD_USAGE, USELESS, completion

REASONS = {"malformed", "refusal"}
PRICES = {"price_per_million_input": 1.0, "price_per_million_output": 1.0}


def answer_by_pair(server: FaultServer, names: list[str]) -> None:
    """Answer the question on the pair of each even number 2k with the k-th of these odd responses."""

    def choose(text: str) -> None:
        number = int(text.split("<")[1].split(">")[0])
        server.faults.share_odd = float(number % 2 == 0)
        server.faults.odd = [names[number // 2]]

    server.on_question = choose


def test_useless_responses_fail_their_own_questions_once_and_for_all(describer: Describer) -> None:
    names = list(USELESS)
    describer.write(2 * len(names))
    answer_by_pair(describer.server, names)
    describer.run(attempts=2, concurrency=4)
    texts, failures = describer.texts(), describer.failures()
    assert set(failures) == ids(*range(0, 2 * len(names), 2))
    assert set(failures.values()) <= REASONS
    assert texts == ids(*range(1, 2 * len(names), 2))
    asked = describer.server.asked.copy()
    describer.run(attempts=2)
    (describer.folder / "differences.jsonl.manifest.json").unlink()
    with describer.output.open("rb+") as stream:
        stream.truncate(stream.seek(-10, 2))  # a torn last row is asked again, nothing else
    describer.run(attempts=2)
    assert (describer.server.asked - asked).total() == 1
    assert (describer.texts(), describer.failures()) == (texts, failures)


@pytest.mark.parametrize("name", ["usage_negative", "html"])
def test_odd_usage_does_not_defeat_max_cost(describer: Describer, name: str) -> None:
    describer.write(200)
    describer.server.faults.odd, describer.server.faults.share_odd = [name], 1.0
    options = {"max_cost": 0.01, "concurrency": 2, "attempts": 1, "stop_after_failures": None, **PRICES}
    if name == "html":
        describer.fails(**options)
    else:
        describer.run(**options)
    assert 10 < describer.server.asked.total() < 70  # about 170 prompt tokens each, and 400 reserved


def test_batch_files_with_such_responses_are_collected(describer: Describer) -> None:
    names = [*USELESS, *ODD_USAGE]
    describer.write(2 * len(names))
    answer_by_pair(describer.server, names)
    for _ in range(2):
        describer.run(backend="batch", batch_poll=0.01)
    odd = ids(*range(0, 2 * len(USELESS), 2))
    assert set(describer.failures()) == odd
    assert set(describer.failures().values()) <= {*REASONS, "no_answer"}
    assert describer.texts() == ids(*range(2 * len(names))) - odd
    assert set(describer.server.asked.values()) == {1}
    assert all(0 < row["prompt_tokens"] < 1000 for row in describer.rows())


def test_a_batch_row_of_odd_errors_is_a_failure(describer: Describer) -> None:
    describer.write(8)
    describer.run(backend="batch", batch_submit=False)
    file = describer.folder / "differences.batch/0000.in.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    errors = ["text", ["list"], {"code": 5, "message": {"a": []}}, {"error": "text"}, {"code": "x\ud83d"}, 1e999, True]
    rows = [{"custom_id": row["custom_id"], "error": error} for row, error in zip(rows, errors, strict=False)]
    file.with_name("0000.out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    describer.fails(backend="batch", batch_submit=False)
    assert describer.failures() == {**dict.fromkeys(ids(*range(7)), "http_none"), "p4": "x?", "p7": "no_answer"}


def test_a_compressed_response_cannot_fill_the_memory(describer: Describer, monkeypatch: pytest.MonkeyPatch) -> None:
    describer.write(3)
    describer.server.faults.headers, describer.server.faults.odd, describer.server.faults.share_odd = (
        "Content-Encoding: gzip\r\n",
        ["bomb"],
        1.0,
    )
    bodies = {"bomb": gzip.compress(b" " * 100_000_000), "good": gzip.compress(completion(GOOD))}
    monkeypatch.setattr("tests.helpers.fault_server.USELESS", bodies)
    describer.fails(attempts=1)
    assert set(describer.failures().values()) == {"malformed"}
    describer.server.faults.odd = ["good"]
    describer.run(retry_failed=True)
    assert len(describer.texts()) == 3


@pytest.mark.parametrize("status", [400, 429, 500])
def test_errors_may_hold_anything_too(describer: Describer, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(client, "RATE_LIMITS_IN_A_ROW", 100)
    describer.write(23)
    bodies = iter(USELESS.values())
    describer.server._chat = lambda *_: (  # type: ignore[method-assign]
        ("ok", status, body, "") if (body := next(bodies, None)) is not None else ("ok", 200, completion(GOOD), "")
    )
    describer.run(attempts=len(USELESS) + 2, answer_format="json_object", concurrency=1)
    assert len(describer.texts()) + len(describer.failures()) == 23
    # the body that is too long is no error of the question, and asked again
    assert len(describer.failures()) == (len(USELESS) - 1 if status == 400 else 0)


def test_names_that_are_not_unicode_fail_alone(tmp_path: Path, server: FaultServer, read: Read) -> None:
    pairs, output = tmp_path / "pairs.jsonl", tmp_path / "d.jsonl"
    pairs.write_text(r'{"first": "cat", "second": "half \ud83d"}' + '\n{"first": "cat", "second": "dog"}\n')
    ClassTexts(output=str(output), pairs=str(pairs), base_url=server.url, model="m").run()
    assert [row["second"] for row in read(output)] == ["dog"]
    assert [row["reason"] for row in read(tmp_path / "d.failures.jsonl")] == ["bad_text"]
