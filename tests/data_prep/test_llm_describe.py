"""Describing pairs by a language model, against a server that makes the faults of real ones."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from data_prep.llm import pace
from tests.data_prep.conftest import Rows
from tests.helpers.fault_server import Faults, FaultServer, running_server
from tests.helpers.pair_files import model_options, pair_of, write_pairs

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


def outcome(folder: Path, read: Read) -> tuple[list[str], dict[str, str]]:
    """Ids of the texts, and reasons of the failures by id."""
    texts = [row["pair_id"] for row in read(folder / "differences.jsonl")]
    failures = folder / "differences.failures.jsonl"
    rows = read(failures) if failures.exists() else []
    assert len({row["pair_id"] for row in rows}) == len(rows)
    return texts, {row["pair_id"]: row["reason"] for row in rows}


def test_rows_manifest_and_nothing_to_do_again(
    tmp_path: Path, server: FaultServer, read: Read, capsys: Capture
) -> None:
    write_pairs(tmp_path, 12)
    options = model_options(tmp_path, server, price_per_million_input=1.0, price_per_million_output=2.0)
    options.run()
    rows = {row["pair_id"]: row for row in read(tmp_path / "differences.jsonl")}
    assert sorted(rows) == sorted(f"p{i}" for i in range(12))
    row = rows["p3"]
    assert (row["group"], row["first"], row["second"]) == ("g", "i3", "i4")
    assert "(text)" in row["text"]
    assert "(reverse_text)" in row["reverse_text"]
    assert (row["model"], row["prompt"], row["prompt_tokens"]) == ("m", "difference@1", 100)
    manifest = json.loads((tmp_path / "differences.jsonl.manifest.json").read_text())
    assert manifest["options"]["describer"] == "openai:m"
    assert manifest["options"]["sampling"] == {"temperature": 0.7, "max_tokens": 400}
    assert manifest["counts"] == {
        "questions": 12,
        "answered": 12,
        "failed": 0,
        "prompt_tokens": 1200,
        "completion_tokens": 600,
        "cost": 0.0024,
    }
    assert "12 of 12 answered, 0 failed, 1200 + 600 tokens, cost 0.00" in capsys.readouterr().out
    options.run()
    assert "up to date" in capsys.readouterr().out
    assert sum(server.asked.values()) == 12
    user = server.bodies[0]["messages"][-1]["content"]
    assert "Picture <" in user
    assert " again." in user
    assert server.most_at_once <= 12


def test_concurrency_is_bounded_and_used(tmp_path: Path, server: FaultServer) -> None:
    write_pairs(tmp_path, 30)
    server.faults.latency = 0.05
    model_options(tmp_path, server, concurrency=5).run()
    assert server.most_at_once == 5


def test_all_faults_at_once(tmp_path: Path, read: Read) -> None:
    write_pairs(tmp_path, 300)
    faults = Faults(0.002, 0.1, "0.02", 0.05, 0.02, 0.03, 0.02, 0.03, share_odd=0.1)
    with running_server(faults) as server:
        model_options(tmp_path, server, concurrency=40, timeout=2.0, attempts=4).run()
        texts, failures = outcome(tmp_path, read)
        assert sorted([*texts, *failures]) == sorted(f"p{i}" for i in range(300))
        assert set(failures.values()) <= {"length", "http_500", "timeout", "malformed", "connection", "refusal"}
        assert Counter(failures.values())["length"] == server.kinds["length"] > 0
        assert max(server.answered.values()) == 1  # no answered request was asked again
        assert min(server.kinds[kind] for kind in ("429", "500", "hang", "malformed", "disconnect")) > 0


@pytest.mark.parametrize(
    ("share", "reason", "attempts"),
    [
        ("share_500", "http_500", 3),
        ("share_malformed", "malformed", 3),
        ("share_disconnect", "connection", 3),
        ("share_length", "length", 1),
    ],
)
def test_each_fault_alone_is_recorded_by_reason_and_mended_on_demand(
    tmp_path: Path, server: FaultServer, read: Read, share: str, reason: str, attempts: int, capsys: Capture
) -> None:
    write_pairs(tmp_path, 4)
    setattr(server.faults, share, 1.0)
    options = model_options(tmp_path, server, attempts=3)
    for _ in range(2):  # nothing was answered, and without retry_failed nothing is asked again
        with pytest.raises(ValueError, match=r"differences\.failures\.jsonl.*retry_failed"):
            options.run()
        texts, failures = outcome(tmp_path, read)
        assert (texts, failures) == ([], dict.fromkeys(("p0", "p1", "p2", "p3"), reason))
        assert set(server.asked.values()) == {attempts}
        assert f"4 {reason}" in capsys.readouterr().out
    setattr(server.faults, share, 0.0)
    options.retry_failed = True
    options.run()
    assert outcome(tmp_path, read)[0] != []
    assert outcome(tmp_path, read)[1] == {}
    assert json.loads((tmp_path / "differences.jsonl.manifest.json").read_text())["counts"]["failed"] == 0


@pytest.mark.parametrize("finish_reason", ["content_filter", "length"])
def test_answers_cut_short_are_failures(tmp_path: Path, server: FaultServer, read: Read, finish_reason: str) -> None:
    write_pairs(tmp_path, 2)
    server.faults.finish_reason = finish_reason
    with pytest.raises(ValueError, match=r"differences\.failures\.jsonl"):
        model_options(tmp_path, server).run()
    assert outcome(tmp_path, read) == ([], {"p0": finish_reason, "p1": finish_reason})


def test_a_429_pauses_everybody_for_as_long_as_it_asks(tmp_path: Path, server: FaultServer, read: Read) -> None:
    write_pairs(tmp_path, 40)
    times: list[float] = []
    verdict = server._verdict

    def first_is_limited(*given: object) -> object:
        times.append(time.monotonic())
        server.faults.share_429 = 1.0 if len(times) == 10 else 0.0
        return verdict(*given)  # type: ignore[arg-type]

    server._verdict = first_is_limited  # type: ignore[method-assign,assignment]
    server.faults.retry_after, server.faults.latency = "0.7", 0.005
    model_options(tmp_path, server, concurrency=4, attempts=1).run()
    assert len(outcome(tmp_path, read)[0]) == 40
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert sum(gap > 0.6 for gap in gaps) == 1  # one gap, in which nobody asked


@pytest.mark.parametrize(
    ("refused", "used"),
    [([], "json_schema"), (["json_schema"], "json_object"), (["json_schema", "json_object"], "text")],
)
def test_the_answer_format_is_found_out_once(
    tmp_path: Path, server: FaultServer, read: Read, refused: list[str], used: str
) -> None:
    write_pairs(tmp_path, 40)
    server.faults.refuse, server.faults.latency = refused, 0.01
    model_options(tmp_path, server, concurrency=20).run()
    assert len(outcome(tmp_path, read)[0]) == 40
    assert server.formats[used] == 40
    assert max([server.formats[name] for name in refused], default=0) <= 20  # what went out before the first refusal
    assert {row["attempts"] for row in read(tmp_path / "differences.jsonl")} == {1}


def test_a_question_that_is_refused_in_every_format_fails_alone(
    tmp_path: Path, server: FaultServer, read: Read
) -> None:
    write_pairs(tmp_path, 6)
    verdict = server._verdict

    def too_long(request: dict[str, object], headers: str, text: str) -> object:
        server.faults.refuse = ["json_schema", "json_object", "text"] if "<0>" in text else []
        return verdict(request, headers, text)

    server._verdict = too_long  # type: ignore[method-assign,assignment]
    model_options(tmp_path, server, concurrency=3).run()
    texts, failures = outcome(tmp_path, read)
    assert (sorted(texts), failures) == (["p1", "p2", "p3", "p4", "p5"], {"p0": "bad_request"})
    assert server.formats["json_schema"] in (6, 7)


def test_limit_and_max_cost_stop_cleanly_and_the_next_run_goes_on(
    tmp_path: Path, server: FaultServer, read: Read, capsys: Capture
) -> None:
    write_pairs(tmp_path, 30)
    model_options(tmp_path, server, limit=7).run()
    assert len(read(tmp_path / "differences.jsonl")) == 7
    assert "23 are missing: as many as `limit` allows" in capsys.readouterr().out
    assert not (tmp_path / "differences.jsonl.manifest.json").exists()
    # an answer costs 0.0001 + 0.00005; at most 0.0004 are set aside for each
    prices = {"price_per_million_input": 1.0, "price_per_million_output": 1.0, "concurrency": 1}
    model_options(tmp_path, server, max_cost=0.003, **prices).run()
    rows = len(read(tmp_path / "differences.jsonl"))
    assert 12 < rows <= 20
    assert "stopped before `max_cost` is passed" in capsys.readouterr().out
    model_options(tmp_path, server).run()
    assert len(read(tmp_path / "differences.jsonl")) == 30
    assert max(server.asked.values()) == 1


def test_dry_run_asks_and_writes_nothing(tmp_path: Path, server: FaultServer, capsys: Capture) -> None:
    write_pairs(tmp_path, 30)
    model_options(tmp_path, server, dry_run=True, price_per_million_input=10.0).run()
    shown = capsys.readouterr().out
    assert [f"--- p{i} (model m" in shown for i in range(4)] == [True, True, True, False]
    assert "Picture <2> of a cat.\nCat 2 again." in shown
    assert "30 requests to ask (0 answered, 0 failed before)" in shown
    assert "about 3000 answer tokens" in shown
    assert "in money" in shown
    assert server.asked == {}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["captions.jsonl", "pairs.jsonl"]
    model_options(tmp_path, server, limit=10).run()
    model_options(tmp_path, server, dry_run=True).run()
    assert "20 requests to ask (10 answered" in capsys.readouterr().out


def test_an_output_of_other_settings_captions_or_pairs_is_refused(
    tmp_path: Path, server: FaultServer, read: Read
) -> None:
    write_pairs(tmp_path, 5)
    model_options(tmp_path, server).run()
    with pytest.raises(ValueError, match=r"line 1: written with other settings \(m, prompt difference@1\)"):
        model_options(tmp_path, server, temperature=0.1).run()
    pairs, captions = tmp_path / "pairs.jsonl", tmp_path / "captions.jsonl"
    whole = captions.read_text()
    captions.write_text(whole.replace("<2>", "<two>"))
    with pytest.raises(ValueError, match=r"pair_id 'p1' was asked of other captions .*choose another `output`"):
        model_options(tmp_path, server).run()
    captions.write_text(whole)
    pairs.write_text(pairs.read_text().replace("p4", "p5"))
    with pytest.raises(ValueError, match=r"holds a `pair_id` that the input does not have"):
        model_options(tmp_path, server).run()
    pairs.write_text(pairs.read_text().replace("p3", "p2"))
    with pytest.raises(ValueError, match=r"pair_id 'p2' occurs twice"):
        model_options(tmp_path, server).run()
    assert len(read(tmp_path / "differences.jsonl")) == 5
    assert sum(server.asked.values()) == 5


def test_pictures_are_shown(tmp_path: Path, server: FaultServer, read: Read) -> None:
    write_pairs(tmp_path, 3)
    for i in range(3):
        Image.new("RGB", (40, 30), (i, 0, 0)).save(tmp_path / f"{i}.jpg")
    prompt = "difference_images"
    model_options(tmp_path, server, with_images=True, prompt=prompt, picture_size=20).run()
    assert outcome(tmp_path, read) == (outcome(tmp_path, read)[0], {"p2": "unreadable_image"})
    content = server.bodies[0]["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    assert content[0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    with pytest.raises(ValueError, match=r"must hold \{first\} and \{second\}, or with_images"):
        model_options(tmp_path, server, prompt=prompt).run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ""}, "describe.model is not set"),
        ({"base_url": None}, "environment variable OPENAI_API_KEY is not set"),
        ({"base_url": "http://me:secret@host/v1"}, "describe.base_url must hold no user"),
        ({"answer_format": "xml"}, "describe.answer_format must be one of auto, json_schema"),
        ({"concurrency": 0}, "describe.concurrency must be above 0"),
        ({"max_cost": 1.0}, "describe.max_cost needs describe.price_per_million_input"),
        ({"captions_per_image": 0}, "describe.captions_per_image must be at least 1"),
        ({"prompt": "nowhere.yaml"}, "nowhere.yaml: prompt not found"),
    ],
)
def test_bad_options(tmp_path: Path, server: FaultServer, options: dict[str, object], message: str) -> None:
    write_pairs(tmp_path, 2)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        model_options(tmp_path, server, **options).run()
    assert server.asked == {}
    assert not (tmp_path / "differences.jsonl").exists()


def test_a_signal_lets_what_is_under_way_come_in(
    tmp_path: Path, server: FaultServer, read: Read, capsys: Capture
) -> None:
    write_pairs(tmp_path, 100)
    server.faults.latency = 0.05
    verdict = server._verdict

    def signal_at_the_twelfth(*given: object) -> object:
        if sum(server.asked.values()) == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return verdict(*given)  # type: ignore[arg-type]

    server._verdict = signal_at_the_twelfth  # type: ignore[method-assign,assignment]
    with pytest.raises(SystemExit) as ended:
        model_options(tmp_path, server, concurrency=5).run()
    assert ended.value.code == 128 + signal.SIGTERM
    assert "interrupted; run again to go on" in capsys.readouterr().out
    texts = outcome(tmp_path, read)[0]
    assert 0 < len(texts) < 100
    assert sorted(texts) == sorted(pair_of(question) for question in server.answered)
    server.faults.latency = 0.0
    model_options(tmp_path, server).run()
    assert set(server.asked.values()) == {1}
