"""The second opinion of `screen`, by a local endpoint that judges texts by a word in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from data_prep.cli import main
from data_prep.llm import client
from data_prep.steps import screen
from tests.data_prep.conftest import Rows
from tests.helpers import fault_server
from tests.helpers.fault_server import FaultServer, running_server

Read = Callable[[Path], Rows]
ROWS = 40


def judge(request: dict[str, Any], question: str) -> str:
    """Find every text wrong that speaks of a zebra."""
    text, reverse = question.split("Text, in")[1].split("Reverse text, in")
    verdicts = ("No." if "zebra" in one else "yes" for one in (text, reverse))
    return json.dumps({"reason": "checked", **dict(zip(("text_is_true", "reverse_is_true"), verdicts, strict=True))})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    monkeypatch.setattr(fault_server, "answer_of", judge)
    monkeypatch.setattr(client, "FIRST_BACKOFF", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with running_server() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`captions.jsonl` and `differences.jsonl` with 40 right rows. Each tenth text and each fifth reverse has a zebra."""
    captions, rows = [], []
    for i in range(ROWS + 1):
        captions.append(
            {"id": f"i{i}", "file": f"{i}.jpg", "captions": [f"A dog in room {i}.", f"A zebra by room {i}."]}
        )
    for i in range(ROWS):
        ids = {"pair_id": f"p{i}", "group": "g", "first": f"i{i}", "second": f"i{i + 1}"}
        texts = []
        for a, b, every in ((i, i + 1, 10), (i + 1, i, 5)):
            animal = "dog" if i % every else "zebra"
            texts.append(f"The first image shows a {animal} in room {a}, while the second image shows one in room {b}.")
        rows.append({**ids, "text": texts[0], "reverse_text": texts[1]})
    for name, content in (("captions", captions), ("differences", rows)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return tmp_path


def run(folder: Path, server: FaultServer, *, max_repeats: int | None = None, **options: Any) -> str:
    """Screen with a second opinion and return the report."""
    given = {"base_url": server.url, "model": "m", **options}
    names = ("differences", "captions", "output")
    screen.Screen(
        **{name: str(folder / f"{name}.jsonl") for name in names},  # type: ignore[arg-type]
        max_repeats=max_repeats,
        workers=1,
        samples=3,
        opinion=screen.OpinionOptions(**given),
    ).run()
    return (folder / "output.report.md").read_text()


def test_share_interval_and_examples(folder: Path, server: FaultServer, read: Read) -> None:
    report = run(folder, server, sample=100)
    assert len(read(folder / "output.jsonl")) == ROWS  # rows that are judged wrong stay
    assert f"`m` judged {ROWS} of {ROWS} rows" in report
    for name, count in (("text", 4), ("reverse_text", 8), ("either", 8)):
        found = binomtest(count, ROWS).proportion_ci(method="wilson")
        assert f"| {name} | {count} | {count / ROWS:.2%} | {found.low:.2%} to {found.high:.2%} |" in report
    examples = report.split("## Second opinion")[1].split("\n- ")[1:]
    assert len(examples) == 3
    assert all("zebra" in example and "checked" in example for example in examples)
    question = next(question for question in server.asked if "Captions of A:\nA dog in room 7.\n" in question)
    assert "Captions of B:\nA dog in room 8.\nA zebra by room 8.\n" in question
    assert re.search(r"is B:\nThe first image shows a \w+ in room 7,", question)
    assert re.search(r"is A:\nThe first image shows a \w+ in room 8,", question)


def test_no_question_is_asked_twice(folder: Path, server: FaultServer, read: Read) -> None:
    run(folder, server, sample=20, limit=5)
    assert sum(server.asked.values()) == 5
    reports = [run(folder, server, sample=20), run(folder, server, sample=20)]
    assert reports[0] == reports[1]
    assert reports[0].count("## Second opinion") == 1
    assert sum(server.asked.values()) == 20
    assert "judged 30 of 30" in run(folder, server, sample=30)
    assert "judged 10 of 10" in run(folder, server, sample=10)
    assert sum(server.asked.values()) == 30
    # a row that is gone is replaced, and a text that was changed is judged again
    rows = read(folder / "differences.jsonl")
    drawn = [row["pair_id"] for row in read(folder / "output.opinions.jsonl")]
    left = [row for row in rows if row["pair_id"] != drawn[0]]
    for row in left:
        if row["pair_id"] == drawn[1]:
            row["text"] = row["text"].replace("dog", "cat").replace("zebra", "cat")
    (folder / "differences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in left))
    assert "judged 30 of 30" in run(folder, server, sample=30)
    assert sum(server.asked.values()) == 32
    assert max(server.asked.values()) == 1


def test_a_failing_endpoint_leaves_the_screening(
    folder: Path, server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults.model = "another"
    config = folder / "config.yaml"
    section = {name: str(folder / f"{name}.jsonl") for name in ("differences", "captions", "output")}
    config.write_text(json.dumps({"screen": {**section, "opinion": {"base_url": server.url, "model": "m"}}}))
    assert main(["screen", "--config", str(config)]) == 2
    shown = capsys.readouterr()
    assert f"{ROWS} of {ROWS} rows passed" in shown.out
    assert server.url in shown.err
    names = ("output.jsonl", "output.rejected.jsonl", "output.jsonl.manifest.json")
    written = [(folder / name).read_bytes() for name in names]
    assert "Second opinion" not in (folder / "output.report.md").read_text()
    server.faults.model = ""
    assert main(["screen", "--config", str(config), "--screen.opinion.sample", "30"]) == 0
    shown = capsys.readouterr()
    assert "up to date" in shown.out
    assert "judged 30 of 30" in (folder / "output.report.md").read_text()
    assert [(folder / name).read_bytes() for name in names] == written


def test_an_answer_that_is_neither_yes_nor_no_is_asked_again(
    folder: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hesitant(request: dict[str, Any], question: str) -> str:
        return judge(request, question).replace("yes", "yes" if server.asked[question] == 3 else "perhaps")

    monkeypatch.setattr(fault_server, "answer_of", hesitant)
    assert "judged 8 of 8" in run(folder, server, sample=8)
    assert 8 < sum(server.asked.values()) <= 24


def test_max_cost_and_dry_run(folder: Path, server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, server, dry_run=True)
    assert f"{ROWS} requests to ask" in capsys.readouterr().out
    assert server.asked == {}
    assert (folder / "output.jsonl").exists()
    assert not (folder / "output.opinions.jsonl").exists()
    prices = {"price_per_million_input": 1.0, "price_per_million_output": 1.0, "concurrency": 1}
    report = run(folder, server, max_cost=0.003, **prices)  # an answer costs 0.00015
    found = re.search(rf"judged (\d+) of {ROWS}", report)
    assert found is not None
    assert 5 < int(found[1]) <= 20


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": ""}, "screen.opinion.model"),
        ({"sample": 0}, "screen.opinion.sample"),
        ({"part": "2/1"}, "opinion.part"),
    ],
)
def test_bad_options_are_found_before_screening(
    folder: Path, server: FaultServer, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        run(folder, server, **options)
    assert not (folder / "output.jsonl").exists()
