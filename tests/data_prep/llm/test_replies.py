"""Answers are found in whatever form a model gives them; pieces of answers are not taken for answers."""

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import create_model

from data_prep.llm.replies import Completion, NoAnswerError, Text, load, parse_reply
from tests.helpers.odd_replies import GOOD, ODD_USAGE, USELESS, completion

ONE = create_model("One", text=(Text, ...))
TWO = create_model("Two", text=(Text, ...), reverse_text=(Text, ...))

SENTENCE = st.from_regex(r"\A[A-Z][a-zäöü]{0,9}( [a-z0-9,'{}\"]{1,9}){1,9}[.!]\Z")
COMMENT = st.sampled_from(["", "Sure! Here is {the} answer:\n", "Here you are:\n\n"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["message", "content", "tokens"]), inner)
    ),
)
FORMS = {
    "JSON": lambda first, second: json.dumps({"text": first, "reverse_text": second}),
    "more keys": lambda first, second: json.dumps(
        {"mood": 1, "text": first, "reverse_text": second}, ensure_ascii=False
    ),
    "fenced": lambda first, second: f"```json\n{json.dumps({'text': first, 'reverse_text': second})}\n```",
    "raw line breaks": lambda first, second: json.dumps({"text": first, "reverse_text": second}).replace(" ", "\n"),
    "labels": lambda first, second: f"Text: {first}\nReverse text: {second}",
    "short labels": lambda first, second: f"**Text**: {first}\n\n**REVERSE**:\n{second}",
    "numbers": lambda first, second: f"1. {first}\n2. {second}\n\nI hope this helps.",
    "brackets": lambda first, second: f"1) **{first}**\n2) {second}",
}


@settings(max_examples=40)
@given(first=SENTENCE, second=SENTENCE, comment=COMMENT)
def test_an_answer_is_found_in_each_form(first: str, second: str, comment: str) -> None:
    for name, form in FORMS.items():
        assert parse_reply(comment + form(first, second), TWO) == {"text": first, "reverse_text": second}, name


@given(first=SENTENCE, second=SENTENCE, data=st.data())
def test_json_that_is_cut_off_is_no_answer(first: str, second: str, data: st.DataObject) -> None:
    whole = FORMS["JSON"](first, second)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for lines in (False, True):
        with pytest.raises(NoAnswerError):
            parse_reply(cut, TWO, lines=lines)


@given(content=st.text() | JSON.map(json.dumps) | st.lists(st.text()).map("\n".join))
def test_any_content_gives_whole_texts_or_no_answer(content: str) -> None:
    for model in (ONE, TWO):
        found: dict[str, str] = {}
        with suppress(NoAnswerError):
            found = parse_reply(content, model, lines=True)
            assert list(found) == list(model.model_fields)
        assert all(text == " ".join(text.split()) != "" for text in found.values())
        json.dumps(found, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "content",
    [
        "The first is red.",
        "```json\n{\n",
        '{"text": "The first is red.", "reverse_text": ""}',
        '{"text": "The first is red.", "reverse_text": 3}',
        '{"text": "The first is red."}',
        "[" * 100_000,
        "{" * 2_000,
        "1. The first is red.\n2. The first is blue.\n3. Both are round.",
        "The first is red.\n\nThe first is blue.",
        "Text: The first is red.\nText: The first is blue.",
    ],
)
def test_no_answer(content: str) -> None:
    with pytest.raises(NoAnswerError):
        parse_reply(content, TWO)


def test_plain_lines_count_only_where_text_was_asked_for() -> None:
    assert parse_reply("Red.\n\nBlue.", TWO, lines=True) == {"text": "Red.", "reverse_text": "Blue."}
    assert parse_reply("A dog\nruns.", ONE, lines=True) == {"text": "A dog runs."}
    for content in ("The first is red.", "a\nb\nc", "half \ud83d\nb"):
        with pytest.raises(NoAnswerError):
            parse_reply(content, TWO, lines=True)
    with pytest.raises(NoAnswerError):
        parse_reply("I am sorry, I cannot do that.", ONE)


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"finish_reason": "length", "message": {"content": GOOD}}, "length"),
        ({"finish_reason": "content_filter", "message": {"content": ""}}, "content_filter"),
        ({"finish_reason": "stop", "message": {"content": None, "refusal": "I cannot"}}, "refusal"),
    ],
)
def test_failures_by_reason(choice: dict[str, object], reason: str) -> None:
    with pytest.raises(NoAnswerError) as failure:
        Completion.model_validate({"choices": [choice]}).text()
    assert (failure.value.reason, failure.value.retryable) == (reason, False)


@pytest.mark.parametrize("name", USELESS)
def test_a_useless_response_is_refused_in_bounded_time(name: str) -> None:
    started = time.process_time()
    with pytest.raises(NoAnswerError):
        parse_reply(load(USELESS[name], Completion).text(), TWO)
    assert time.process_time() - started < 20


@pytest.mark.parametrize("name", ODD_USAGE)
def test_odd_usage_is_estimated_and_spares_the_answer(name: str) -> None:
    found = load(ODD_USAGE[name], Completion)
    assert found.text() == GOOD
    assert found.tokens(70) in ((70, 50), (70, -(-len(GOOD) // 4)))
    assert load(completion(GOOD), Completion).tokens(70) == (100, 50)


@given(value=st.dictionaries(st.sampled_from(["choices", "usage", "id"]), JSON))
def test_any_object_is_a_completion_with_possible_tokens(value: dict[str, object]) -> None:
    found = load(json.dumps(value).encode(), Completion)
    assert all(0 <= tokens <= 10_000_000 for tokens in found.tokens(70))
