"""Describing pairs by a language model, against a server that makes the faults of real ones."""

import base64
import io
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.data_prep.llm.conftest import Capture, Describer, ids
from tests.helpers.fault_server import Faults, running_server
from tests.helpers.pair_files import pair_of

PRICES = {"price_per_million_input": 1.0, "price_per_million_output": 2.0}


def test_rows_manifest_and_nothing_to_do_again(describer: Describer, capsys: Capture) -> None:
    describer.write(12)
    describer.server.faults.latency = 0.05
    describer.run(concurrency=5, **PRICES)
    assert describer.server.most_at_once == 5
    assert describer.texts() == ids(*range(12))
    row = next(row for row in describer.rows() if row["pair_id"] == "p3")
    assert (row["group"], row["first"], row["second"]) == ("g", "i3", "i4")
    assert "(text)" in row["text"]
    assert "(reverse_text)" in row["reverse_text"]
    assert (row["model"], row["prompt"], row["prompt_tokens"]) == ("m", "difference@1", 100)
    manifest = describer.manifest()
    assert manifest is not None
    assert manifest["options"]["backend"] == "openai:m"
    assert manifest["options"]["sampling"] == {"temperature": 0.7, "max_tokens": 400}
    tokens = {"prompt_tokens": 1200, "completion_tokens": 600, "cost": 0.0024}
    assert manifest["counts"] == {"questions": 12, "answered": 12, "failed": 0, **tokens}
    assert "12 of 12 answered, 0 failed, 1200 + 600 tokens, cost 0.00" in capsys.readouterr().out
    describer.run(**PRICES)
    assert "up to date" in capsys.readouterr().out
    assert describer.server.asked.total() == 12
    user = describer.server.bodies[0]["messages"][-1]["content"]
    assert "Picture <" in user
    assert " again." in user


def test_all_faults_at_once(tmp_path: Path) -> None:
    faults = Faults(0.002, 0.1, "0.02", 0.05, 0.02, 0.03, 0.02, 0.03, share_odd=0.1)
    with running_server(faults) as server:
        describer = Describer(tmp_path, server)
        describer.write(300)
        describer.run(concurrency=40, timeout=2.0, attempts=4)
        texts, failures = describer.texts(), describer.failures()
        assert texts | set(failures) == ids(*range(300))
        assert not texts & set(failures)
        assert set(failures.values()) <= {"length", "http_500", "timeout", "malformed", "connection", "refusal"}
        assert Counter(failures.values())["length"] == server.kinds["length"] > 0
        assert max(server.answered.values()) == 1  # no answered request was asked again
        assert min(server.kinds[kind] for kind in ("429", "500", "hang", "malformed", "disconnect")) > 0


@pytest.mark.parametrize(
    ("faults", "reason", "attempts", "example"),
    [
        ({"share_odd": 1.0, "odd": ["html"]}, "malformed", 2, "It works!"),
        ({"share_malformed": 1.0}, "malformed", 2, "text"),
        ({"share_500": 1.0}, "http_500", 2, "The server had an error"),
        ({"share_disconnect": 1.0}, "connection", 2, ""),
        ({"share_length": 1.0}, "length", 1, ""),
        ({"refuse": ["json_schema", "json_object", "text"]}, "bad_request", 3, "not supported"),
    ],
)
def test_failures_in_a_row_end_the_run_are_recorded_by_reason_and_asked_again_on_demand(
    describer: Describer, capsys: Capture, faults: dict[str, Any], reason: str, attempts: int, example: str
) -> None:
    describer.write(40)
    describer.server.faults = replace(Faults(), **faults)
    describer.fails(attempts=2, concurrency=4, stop_after_failures=10)
    failures, server = describer.failures(), describer.server
    asked = {question: count for question, count in server.asked.items() if pair_of(question) in failures}
    assert 10 <= len(failures) <= 14
    assert set(failures.values()) == {reason}
    assert set(asked.values()) == {attempts} or reason == "bad_request"
    printed = capsys.readouterr().out
    assert f"{len(failures)} {reason}" in printed
    assert example in printed
    assert describer.manifest() is None
    server.faults = Faults()
    describer.run()
    assert describer.failures() == failures
    assert all(server.asked[question] == count for question, count in asked.items())
    describer.run(retry_failed=True)
    assert describer.texts() == ids(*range(40))
    assert describer.failures() == {}
    assert (describer.manifest() or {})["counts"]["failed"] == 0


def test_a_429_pauses_all_requests_for_as_long_as_it_asks(describer: Describer) -> None:
    describer.write(40)
    times: list[float] = []

    def limit_the_tenth(text: str) -> None:
        times.append(time.monotonic())
        describer.server.faults.share_429 = float(len(times) == 10)

    describer.server.on_question = limit_the_tenth
    describer.server.faults.retry_after, describer.server.faults.latency = "0.7", 0.005
    describer.run(concurrency=4, attempts=1)
    assert len(describer.texts()) == 40
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert sum(gap > 0.6 for gap in gaps) == 1  # one gap, in which no request came


@pytest.mark.parametrize(
    ("refused", "used"),
    [([], "json_schema"), (["json_schema"], "json_object"), (["json_schema", "json_object"], "text")],
)
def test_the_answer_format_is_found_out_once(describer: Describer, refused: list[str], used: str) -> None:
    describer.write(40)
    describer.server.faults.refuse, describer.server.faults.latency = refused, 0.01
    describer.run(concurrency=20)
    assert len(describer.texts()) == 40
    assert describer.server.formats[used] == 40
    # what went out before the first refusal
    assert max([describer.server.formats[name] for name in refused], default=0) <= 20
    assert {row["attempts"] for row in describer.rows()} == {1}


def test_a_question_that_is_refused_in_every_format_fails_alone(describer: Describer) -> None:
    describer.write(6)

    def too_long(text: str) -> None:
        describer.server.faults.refuse = ["json_schema", "json_object", "text"] if "<0>" in text else []

    describer.server.on_question = too_long
    describer.run(concurrency=3)
    assert (describer.texts(), describer.failures()) == (ids(1, 2, 3, 4, 5), {"p0": "bad_request"})
    assert describer.server.formats["json_schema"] in (6, 7)


def test_limit_and_max_cost_stop_and_the_next_run_asks_the_rest(describer: Describer, capsys: Capture) -> None:
    describer.write(30)
    describer.run(limit=7)
    assert len(describer.texts()) == 7
    assert "23 are missing" in capsys.readouterr().out
    assert describer.manifest() is None
    # an answer costs 0.0001 + 0.00005; at most 0.0004 are reserved for each
    prices = {"price_per_million_input": 1.0, "price_per_million_output": 1.0, "concurrency": 1}
    describer.run(max_cost=0.003, **prices)
    assert 12 < len(describer.texts()) <= 20
    assert "max_cost" in capsys.readouterr().out
    describer.run()
    assert describer.texts() == ids(*range(30))
    assert max(describer.server.asked.values()) == 1


@pytest.mark.parametrize("limits", [{"requests_per_minute": 1200}, {"tokens_per_minute": 30_000}])
def test_rate_limits_hold_back_requests(describer: Describer, limits: dict[str, int]) -> None:
    describer.write(5)
    started = time.monotonic()
    describer.run(**limits)  # 20 requests a second, or 500 tokens at 150 used and 550 estimated for each
    assert time.monotonic() - started > 0.18


def test_dry_run_asks_and_writes_nothing(describer: Describer, capsys: Capture) -> None:
    describer.write(30)
    describer.run(dry_run=True, **PRICES)
    shown = capsys.readouterr().out
    assert [f"--- p{i} (model m" in shown for i in range(4)] == [True, True, True, False]
    assert "Picture <2> of a cat.\nCat 2 again." in shown
    assert "30 requests to ask (0 answered, 0 failed" in shown
    assert "about 3000 answer tokens" in shown
    assert "cost about 0.02" in shown
    assert describer.server.asked == {}
    assert sorted(file.name for file in describer.folder.iterdir()) == ["captions.jsonl", "pairs.jsonl"]
    describer.run(limit=10)
    describer.run(dry_run=True)
    assert "20 requests to ask (10 answered" in capsys.readouterr().out


def test_pictures_are_shown_upright_shrunk_and_in_order(describer: Describer) -> None:
    describer.write(3)
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    Image.new("RGBA", (800, 400), (255, 0, 0, 255)).save(describer.folder / "0.jpg", "PNG")
    Image.new("RGB", (60, 40), (0, 0, 255)).save(describer.folder / "1.jpg", exif=exif)
    (describer.folder / "2.jpg").write_bytes(b"no picture")  # and 3.jpg is missing
    describer.run(with_images=True, prompt="difference_images", picture_size=200)
    assert describer.failures() == dict.fromkeys(ids(1, 2), "unreadable_image")
    content = describer.server.bodies[0]["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    shown = [part["image_url"]["url"].removeprefix("data:image/jpeg;base64,") for part in content[:2]]
    images = [Image.open(io.BytesIO(base64.b64decode(payload))) for payload in shown]
    assert [image.size for image in images] == [(200, 100), (40, 60)]
    colours: list[Any] = [image.resize((1, 1)).getpixel((0, 0)) for image in images]
    assert (colours[0][0] > 200, colours[1][2] > 200) == (True, True)
    describer.fails("{first}", "with_images", prompt="difference_images")


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("model", "", "describe.model"),
        ("base_url", None, "OPENAI_API_KEY"),
        ("base_url", "http://me:secret@host/v1", "describe.base_url"),
        ("answer_format", "xml", "describe.answer_format"),
        ("max_cost", 1.0, "describe.price_per_million_input"),
        ("prompt", "nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_bad_options(describer: Describer, option: str, value: object, named: str) -> None:
    describer.write(2)
    with pytest.raises((ValueError, FileNotFoundError), match=named) as error:
        describer.run(**{option: value})
    assert "secret" not in str(error.value)
    assert describer.server.asked == {}
    assert not describer.output.exists()


def test_a_signal_completes_the_requests_under_way(describer: Describer, capsys: Capture) -> None:
    describer.write(100)
    describer.server.faults.latency = 0.05
    describer.server.on_question = lambda text: (
        describer.server.asked.total() == 12 and os.kill(os.getpid(), signal.SIGTERM)
    )
    with pytest.raises(SystemExit) as ended:
        describer.run(concurrency=5)
    assert ended.value.code == 128 + signal.SIGTERM
    assert "interrupted" in capsys.readouterr().out
    assert 0 < len(describer.texts()) < 100
    assert describer.texts() == {pair_of(question) for question in describer.server.answered}
    describer.server.faults.latency = 0.0
    describer.run()
    assert set(describer.server.asked.values()) == {1}
