"""Answers are found in whatever form a model gives them; pieces of answers are not taken for answers."""

from __future__ import annotations

import json

import pytest

from data_prep.llm.replies import FailedAnswerError, MalformedReplyError, parse_reply, read_answer

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
        "The first is red.\n\nThe first is blue.",
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
    ],
)
def test_no_answer(content: str) -> None:
    with pytest.raises(MalformedReplyError):
        parse_reply(content, NAMES)


def test_single_field() -> None:
    assert parse_reply("A dog\nruns.", ["text"]) == {"text": "A dog runs."}
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
