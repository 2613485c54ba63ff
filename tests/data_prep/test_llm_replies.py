"""Answers are found in whatever form a model gives them; pieces of answers are not taken for answers."""

from __future__ import annotations

import json
import time

import pytest

from data_prep.llm.replies import (
    FailedAnswerError,
    MalformedReplyError,
    load_response,
    parse_reply,
    read_answer,
    read_usage,
)
from tests.helpers.odd_replies import GOOD as GOOD_CONTENT
from tests.helpers.odd_replies import ODD_USAGE, USELESS, completion

NAMES = ["text", "reverse_text"]
GOOD = {"text": "The first is red.", "reverse_text": "The first is blue."}


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(GOOD),
        json.dumps({"thoughts": "hm", **GOOD}, indent=2),
        f"```json\n{json.dumps(GOOD)}\n```",
        f"Sure! Here is {{the}} answer:\n{json.dumps(GOOD)}\nI hope this helps.",
        '{"text": "The first\nis red.", "reverse_text": " The first is blue. "}',
        "Text: The first is red.\nReverse text: The first is blue.",
        "**Text**: The first is red.\n\n**Reverse**: The first\nis blue.",
        "1. The first is red.\n2. The first is blue.",
        "Here you are:\n1) The first is red.\n2) The first is blue.",
    ],
)
def test_forms(content: str) -> None:
    assert parse_reply(content, NAMES) == GOOD


@pytest.mark.parametrize(
    "content",
    [
        "",
        "The first is red.",
        json.dumps(GOOD)[:40],
        "Sure!\n" + json.dumps(GOOD)[:40],
        "```json\n{\n",
        '{"text": "The first is red.", "reverse_text": ""}',
        '{"text": "The first is red.", "reverse_text": 3}',
        '{"text": "The first is red."}',
        "[" * 100_000,
        "{" * 2_000,
        "1. The first is red.\n2. The first is blue.\n3. Both are round.",
        "__import__('os').getcwd()",
        "The first is red.\n\nThe first is blue.",
        "Text: The first is red.\nText: The first is blue.",
    ],
)
def test_no_answer(content: str) -> None:
    with pytest.raises(MalformedReplyError):
        parse_reply(content, NAMES)


def test_plain_lines_count_only_where_text_was_asked_for() -> None:
    assert parse_reply("The first is red.\n\nThe first is blue.", NAMES, lines=True) == GOOD
    for content in ("The first is red.", json.dumps(GOOD)[:40], "a\nb\nc", "half \ud83d\nb"):
        with pytest.raises(MalformedReplyError):
            parse_reply(content, NAMES, lines=True)


def test_single_field() -> None:
    assert parse_reply("A dog\nruns.", ["text"], lines=True) == {"text": "A dog runs."}
    with pytest.raises(MalformedReplyError):
        parse_reply("I am sorry, I cannot do that.", ["text"])
    assert parse_reply('{"text": "A dog runs."}', ["text"]) == {"text": "A dog runs."}
    with pytest.raises(MalformedReplyError):
        parse_reply('{"text": "A dog', ["text"])


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"finish_reason": "length", "message": {"content": json.dumps(GOOD)}}, "length"),
        ({"finish_reason": "content_filter", "message": {"content": ""}}, "content_filter"),
        ({"finish_reason": "stop", "message": {"content": None, "refusal": "I cannot"}}, "refusal"),
    ],
)
def test_failures_by_reason(choice: dict[str, object], reason: str) -> None:
    with pytest.raises(FailedAnswerError) as failure:
        read_answer({"choices": [choice]}, NAMES)
    assert failure.value.reason == reason


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": None}, [], {"choices": [{"message": {}}]}])
def test_responses_without_a_message(answer: object) -> None:
    with pytest.raises(MalformedReplyError):
        read_answer(answer, NAMES)


@pytest.mark.parametrize("name", USELESS)
def test_a_useless_response_is_refused_in_bounded_time(name: str) -> None:
    started = time.process_time()
    with pytest.raises((MalformedReplyError, FailedAnswerError)):
        read_answer(load_response(USELESS[name]), NAMES)
    assert time.process_time() - started < 20


@pytest.mark.parametrize("name", ODD_USAGE)
def test_odd_usage_is_estimated_and_spares_the_answer(name: str) -> None:
    response = load_response(ODD_USAGE[name])
    assert set(read_answer(response, NAMES)) == set(NAMES)
    prompt_tokens, completion_tokens = read_usage(response, 70)
    assert prompt_tokens == 70
    assert completion_tokens in (50, -(-len(GOOD_CONTENT) // 4))


def test_plausible_usage_is_taken_as_it_is() -> None:
    assert read_usage(load_response(completion(GOOD_CONTENT)), 70) == (100, 50)


@pytest.mark.parametrize("response", [None, [], {}, {"choices": [{"message": {"content": None}}]}, "text", 5])
def test_usage_of_no_answer(response: object) -> None:
    assert read_usage(response, 70) == (70, 0)
