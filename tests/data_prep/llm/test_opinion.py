"""The step `opinion`, by a local endpoint that judges texts by a word in them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from data_prep.steps.opinion import Opinion
from tests.data_prep.conftest import Read
from tests.helpers import fault_server
from tests.helpers.fault_server import FaultServer

ROWS = 40


def judge(request: dict[str, Any], question: str) -> str:
    """Find every text wrong that speaks of a zebra."""
    text, reverse = question.split("Text, in")[1].split("Reverse text, in")
    verdicts = ("No." if "zebra" in one else "yes" for one in (text, reverse))
    return json.dumps({"reason": "checked", **dict(zip(("text_is_true", "reverse_is_true"), verdicts, strict=True))})


@pytest.fixture
def server(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> FaultServer:
    monkeypatch.setattr(fault_server, "answer_of", judge)
    return server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`captions.jsonl` and `differences.jsonl` with 40 right rows. Each tenth text and each fifth reverse has a zebra."""
    named = [(f"i{i}", [f"A dog in room {i}.", f"A zebra by room {i}."]) for i in range(ROWS + 1)]
    captions = [{"id": name, "file": f"{name}.jpg", "captions": texts} for name, texts in named]
    rows = []
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


def run(folder: Path, server: FaultServer, **options: Any) -> str:
    """Ask and return the report."""
    files = {name: str(folder / f"{name}.jsonl") for name in ("differences", "captions")}
    report = folder / "opinions.md"
    Opinion(**{**files, "output": str(report), "base_url": server.url, "model": "m", **options}).run()
    return report.read_text() if report.exists() else ""


def test_share_interval_and_examples(folder: Path, server: FaultServer) -> None:
    report = run(folder, server, sample=100)
    assert f"`m` judged {ROWS} of {ROWS} rows" in report
    for name, count in (("text", 4), ("reverse_text", 8), ("either", 8)):
        found = binomtest(count, ROWS).proportion_ci(method="wilson")
        assert f"| {name} | {count} | {count / ROWS:.2%} | {found.low:.2%} to {found.high:.2%} |" in report
    examples = report.split("\n- ")[1:]
    assert len(examples) == 5
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
    assert sum(server.asked.values()) == 20
    assert "judged 30 of 30" in run(folder, server, sample=30)
    assert "judged 10 of 10" in run(folder, server, sample=10)
    assert sum(server.asked.values()) == 30
    # a row that is gone is replaced, and a text that was changed is judged again
    rows = read(folder / "differences.jsonl")
    drawn = [row["pair_id"] for row in read(folder / "opinions.jsonl")]
    left = [row for row in rows if row["pair_id"] != drawn[0]]
    for row in left:
        if row["pair_id"] == drawn[1]:
            row["text"] = row["text"].replace("dog", "cat").replace("zebra", "cat")
    (folder / "differences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in left))
    assert "judged 30 of 30" in run(folder, server, sample=30)
    assert sum(server.asked.values()) == 32
    assert max(server.asked.values()) == 1


def test_an_answer_that_is_neither_yes_nor_no_is_asked_again(
    folder: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hesitant(request: dict[str, Any], question: str) -> str:
        return judge(request, question).replace("yes", "yes" if server.asked[question] == 3 else "perhaps")

    monkeypatch.setattr(fault_server, "answer_of", hesitant)
    assert "judged 8 of 8" in run(folder, server, sample=8)
    assert 8 < sum(server.asked.values()) <= 24


def test_max_cost_and_dry_run(folder: Path, server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, server, dry_run=True) == ""
    assert f"{ROWS} requests to ask" in capsys.readouterr().out
    assert server.asked == {}
    prices: dict[str, Any] = {"price_per_million_input": 1.0, "price_per_million_output": 1.0, "concurrency": 1}
    report = run(folder, server, max_cost=0.003, **prices)  # an answer costs 0.00015
    found = re.search(rf"judged (\d+) of {ROWS}", report)
    assert found is not None
    assert 5 < int(found[1]) <= 20


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": ""}, "opinion.model"),
        ({"part": "2/1"}, "opinion.part"),
        ({"output": "opinions.jsonl"}, "`output`"),
        ({"differences": "captions.jsonl"}, "captions.jsonl, line 1: .*pair_id"),
    ],
)
def test_bad_options_and_input(
    folder: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], named: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match=named):
        run(folder, server, **options)
    assert server.asked == {}
