"""The endpoint's key reaches the endpoint and nothing else: no file, no message. Answers are never altered to hide it."""

import json

import pytest

from data_prep.llm.options import ModelOptions
from tests.data_prep.llm.conftest import Describer
from tests.helpers.odd_replies import fields

KEY = "sk-very-secret-0123456789"
ESCAPED = KEY.replace("s", r"\u0073").replace("-", r"\u002D")

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


def written_and_printed(describer: Describer, capfd: Capture) -> str:
    """Everything that a run left, in which no form of the key may be."""
    printed = capfd.readouterr()
    everything = "".join([printed.out, printed.err, *(file.read_text() for file in describer.folder.iterdir())])
    assert not [form for form in (KEY, ESCAPED, ESCAPED.replace("\\", "\\\\")) if form in everything]
    return everything


@pytest.mark.parametrize(
    ("fault", "value", "named"),
    [
        ("api_key", "sk-another", ("401", "[key]", "MY_KEY")),
        ("model", "llama", ("404", "'m' does not exist", "base_url")),
    ],
)
def test_a_refused_key_or_model_ends_the_run_at_once(
    describer: Describer, fault: str, value: str, named: tuple[str, ...], monkeypatch: Patch, capfd: Capture
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    setattr(describer.server.faults, fault, value)
    describer.write(50)
    assert KEY not in describer.fails(*named, api_key_env="MY_KEY", concurrency=4)
    assert describer.server.asked.total() <= 4
    assert any(KEY in headers for headers in describer.server.headers)
    written_and_printed(describer, capfd)
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
    describer: Describer, content: str, recorded: str, monkeypatch: Patch, capfd: Capture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    describer.write(3)
    describer.server.faults.content = content
    describer.fails(attempts=1)
    assert recorded in written_and_printed(describer, capfd)


@pytest.mark.parametrize("key", ["x", "dog", "image", "first"])
def test_a_key_that_is_an_ordinary_word_damages_no_answer(describer: Describer, monkeypatch: Patch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    describer.write(3)
    texts = {"text": "The first image shows a dog, an ox and x.", "reverse_text": "The first image shows none."}
    describer.server.faults.content = json.dumps(texts)
    describer.run()
    assert [{name: row[name] for name in texts} for row in describer.rows()] == [texts] * 3


@pytest.mark.parametrize("key", ["sk-abc\ndef-0123456789", "abc\rdef", "abc\x00def", "sk-käse-0123456789", "sk abc"])
def test_a_key_that_no_header_can_hold_is_refused_before_any_request(
    describer: Describer, monkeypatch: Patch, key: str
) -> None:
    # not every system can hold each of these in its environment
    monkeypatch.setattr("os.environ", {"MY_KEY": key})
    describer.write(3)
    for backend in ("openai", "batch"):
        message = describer.fails("MY_KEY", api_key_env="MY_KEY", backend=backend)
        assert not [part for part in ("abc", "def", "käse") if part in message]
    assert describer.server.headers == []


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
def test_what_an_endpoint_says_is_cleaned(monkeypatch: Patch, key: str, text: str, cleaned: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert ModelOptions().clean(text) == cleaned
