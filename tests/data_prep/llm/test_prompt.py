"""Prompts are checked when read, filled without surprises, and keyed by all that shapes an answer."""

from pathlib import Path
from typing import Any

import pytest

from data_prep.llm.options import ModelOptions
from data_prep.llm.questions import Question, Requests, load_prompt
from data_prep.llm.replies import Text

PROMPT = (
    "version: 2\nsystem: Compare.\nuser: |\n  {first} / {second}\nanswer: {text: one way, reverse_text: the other}\n"
)
KNOWN = ("first", "second")
FIELDS = {"text": Text, "reverse_text": Text}


def load(folder: Path, content: str = PROMPT, size: int | None = None, **options: Any) -> Requests:
    (folder / "p.yaml").write_text(content)
    model = ModelOptions(**{"model": "m", "prompt": str(folder / "p.yaml"), **options})
    return Requests("describe", model, KNOWN, FIELDS, size)


def test_shipped_prompts() -> None:
    assert load_prompt("difference", KNOWN, FIELDS).placeholders == set(KNOWN)
    assert load_prompt("difference_images", KNOWN, FIELDS).placeholders == set()
    prompt = load_prompt("rewrite", ("caption",), {"text": Text})
    assert prompt.messages({"caption": "a cat"})[-1] == {"role": "user", "content": "a cat"}


def test_names_are_those_of_shipped_prompts_and_paths_are_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewrite.yaml").write_text(PROMPT)
    assert load_prompt("rewrite", ("caption",), {"text": Text}).label == "rewrite@1"
    assert load_prompt("rewrite.yaml", KNOWN, FIELDS).label == "rewrite@2"
    with pytest.raises(FileNotFoundError, match=r"rewrites.*class_comparison.*rewrite"):
        load_prompt("rewrites", KNOWN, FIELDS)
    with pytest.raises(FileNotFoundError, match=r"prompts/rewrite"):
        load_prompt("prompts/rewrite", KNOWN, FIELDS)


def test_messages_and_answer_formats(tmp_path: Path) -> None:
    requests = load(tmp_path)
    system, user = requests.prompt.messages({"first": "a {second} {x}", "second": "b"})
    assert user["content"] == "a {second} {x} / b"  # braces of captions stay
    assert system["content"].startswith("Compare.")
    assert '"reverse_text": the other' in system["content"]
    found = requests.body([], "json_schema")["response_format"]["json_schema"]
    assert found["strict"] is True
    assert found["schema"]["additionalProperties"] is False
    assert found["schema"]["required"] == ["text", "reverse_text"]
    assert found["schema"]["properties"]["text"] == {"type": "string", "title": "Text", "description": "one way"}
    assert requests.body([], "json_object")["response_format"] == {"type": "json_object"}
    assert "response_format" not in requests.body([], "text")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("version: 2\n", "", "version"),
        ("version: 2", "version: two", "version.*'two'"),
        ("version: 2", "version: 2\ncolour: red", "colour"),
        ("{second}", "{third}", r"\{third\}.*\{first\}, \{second\}"),
        ("reverse_text", "backwards", "reverse_text.*backwards"),
        ("text: one way", "text: 3", "answer.text"),
        ("version: 2", "version: [", "YAML"),
        ("version: 2", "version: !!python/object/apply:os.getcwd []", "YAML"),
    ],
)
def test_bad_prompts(tmp_path: Path, old: str, new: str, named: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s)p\.yaml.*{named}"):
        load(tmp_path, PROMPT.replace(old, new))


def key(folder: Path, prompt: str = PROMPT, first: str = "a", pair: str = "p", **options: Any) -> str:
    requests = load(folder, prompt, **options)
    return requests.key(Question(pair, {"pair_id": pair}, {"first": first, "second": "b"}))


def test_the_key_changes_with_all_that_shapes_the_answer_and_nothing_else(tmp_path: Path) -> None:
    same = key(tmp_path)
    assert key(tmp_path, concurrency=3, base_url="http://elsewhere", limit=4, timeout=9.0) == same
    others = [
        key(tmp_path, first="c"),
        key(tmp_path, pair="q"),
        key(tmp_path, PROMPT.replace("version: 2", "version: 3")),
        key(tmp_path, PROMPT.replace("Compare", "Contrast")),
        key(tmp_path, PROMPT.replace("one way", "this way")),
        key(tmp_path, size=256),
        key(tmp_path, model="n"),
        key(tmp_path, temperature=0.1),
        key(tmp_path, max_tokens=9),
        key(tmp_path, extra={"top_p": 0.5}),
    ]
    assert len({same, *others}) == 11
    # the part before the dash stands for the settings alone
    assert [other.partition("-")[0] == same.partition("-")[0] for other in others] == [True, True, *[False] * 8]


def test_keys_are_those_of_earlier_versions() -> None:
    """Answers that were paid for stay valid."""
    requests = Requests("describe", ModelOptions(model="m", prompt="difference"), KNOWN, FIELDS)
    assert (
        requests.key(Question("p", {"pair_id": "p"}, {"first": "a", "second": "b"}))
        == "caf7d1c2b3184530-788673ecf4231f2cb7d5dd0ef74950d6"
    )
