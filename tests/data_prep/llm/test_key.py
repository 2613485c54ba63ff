"""The endpoint's key reaches the endpoint and nothing else: no file, no message. Answers are never altered to hide it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_prep.llm.options import ModelOptions
from tests.data_prep.llm.conftest import Describer
from tests.helpers.fault_server import Faults, FaultServer, running_server
from tests.helpers.odd_replies import fields

KEY = "sk-very-secret-0123456789"
ESCAPED = KEY.replace("s", r"\u0073").replace("-", r"\u002D")


@pytest.mark.parametrize(
    ("faults", "named"),
    [
        (Faults(api_key="sk-another"), ("401", "[key]", "MY_KEY")),
        (Faults(model="llama"), ("404", "'m' does not exist", "base_url")),
    ],
)
def test_a_refused_key_or_model_ends_the_run_at_once(
    tmp_path: Path,
    faults: Faults,
    named: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with running_server(faults) as server:
        describer = Describer(tmp_path, server)
        describer.write(50)
        message = describer.fails(*named, api_key_env="MY_KEY", concurrency=4)
        assert server.asked.total() <= 4
        assert any(KEY in headers for headers in server.headers)
    printed = capfd.readouterr()
    assert KEY not in message + printed.out + printed.err
    assert not describer.output.exists()


@pytest.mark.parametrize(
    ("content", "recorded"),
    [
        (fields(f'"the first {KEY}"'), ""),
        (fields(f'"the first {ESCAPED}"'), ""),
        (f'{{"text": "{KEY}', "[key]"),
        (f'{{"text": "{ESCAPED}', "[key]"),
    ],
)
def test_an_answer_that_repeats_the_key_fails(
    describer: Describer,
    server: FaultServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    content: str,
    recorded: str,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    describer.write(3)
    server.faults.content = content
    describer.fails(attempts=1)
    printed = capfd.readouterr()
    written = b"".join(file.read_bytes() for file in describer.folder.iterdir()).decode()
    assert recorded in written
    for secret in (KEY, ESCAPED, ESCAPED.replace("\\", "\\\\")):
        assert secret not in written + printed.out + printed.err


@pytest.mark.parametrize("key", ["x", "dog", "image", "first"])
def test_a_key_that_is_an_ordinary_word_damages_no_answer(
    describer: Describer, server: FaultServer, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    describer.write(3)
    texts = {"text": "The first image shows a dog, an ox and x.", "reverse_text": "The first image shows none."}
    server.faults.content = json.dumps(texts)
    describer.run()
    assert [{name: row[name] for name in texts} for row in describer.rows()] == [texts] * 3


@pytest.mark.parametrize("backend", ["openai", "batch"])
@pytest.mark.parametrize(
    "key", ["sk-abc\ndef-0123456789", "sk-abc\rdef", "sk-abc\x00def", "sk-käse-0123456789", "sk abc"]
)
def test_a_key_that_no_header_can_hold_is_refused_before_any_request(
    describer: Describer, server: FaultServer, monkeypatch: pytest.MonkeyPatch, key: str, backend: str
) -> None:
    # not every system can hold each of these in its environment
    monkeypatch.setattr("os.environ", {"MY_KEY": key})
    describer.write(3)
    message = describer.fails("MY_KEY", api_key_env="MY_KEY", backend=backend)
    assert "abc" not in message
    assert "def" not in message
    assert server.headers == []


@pytest.mark.parametrize(
    ("key", "text", "cleaned"),
    [
        (KEY, f"no {KEY}, nor {KEY}!", "no [key], nor [key]!"),
        (KEY, f"{ESCAPED} {ESCAPED.lower()}", "[key] [key]"),
        (KEY, ESCAPED.replace("\\", "\\\\"), "[key]"),
        (KEY, KEY.replace("-", "%2D"), "[key]"),
        (r"a/b\c+d=0123456789", json.dumps(r"a/b\c+d=0123456789").replace("/", r"\/"), '"[key]"'),
        ("x", "the next x is x", "the next [key] is [key]"),
        ("", "nothing to hide", "nothing to hide"),
        (KEY, "half \ud83d of a pair", "half ? of a pair"),
        (KEY, "a" * 290 + KEY, "a" * 290 + "[key]"),
        (KEY, "\\" * 200_000, "\\" * 300),
    ],
)
def test_what_an_endpoint_says_is_cleaned(monkeypatch: pytest.MonkeyPatch, key: str, text: str, cleaned: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert ModelOptions().clean(text) == cleaned
