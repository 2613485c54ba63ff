"""Reading a model's answer, be it the JSON asked for or something like it. Answers are parsed, never evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

ITEM = re.compile(r"(?m)^\W*(\d+)[.):]\W*(.*)$")


LONGEST_DETAIL = 300  # characters kept of what an endpoint says


class MalformedReplyError(ValueError):
    """An answer in which the fields asked for cannot be found."""


class FailedAnswerError(ValueError):
    """An answer that asking again would not mend, for a reason in one word."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


def read_answer(answer: Any, names: list[str], redact: Callable[[str], str] = str) -> dict[str, str]:
    """The fields in a chat completion.

    Raises:
        MalformedReplyError: They cannot be found.
        FailedAnswerError: The model was cut off, or would not answer.
    """
    try:
        choice = answer["choices"][0]
        message, finish_reason = choice["message"], choice.get("finish_reason")
        content, refusal = message.get("content"), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise MalformedReplyError("the response holds no message") from None
    if finish_reason in ("length", "content_filter"):
        raise FailedAnswerError(finish_reason)
    if refusal:
        raise FailedAnswerError("refusal", redact(str(refusal))[:LONGEST_DETAIL])
    if not isinstance(content, str):
        raise MalformedReplyError("the message holds no text")
    return parse_reply(redact(content), names)


def parse_reply(content: str, names: Sequence[str]) -> dict[str, str]:
    """Find the fields of an answer: in JSON (alone, in a code fence, or amid prose), or on labelled or numbered lines.

    Args:
        content: The model's message.
        names: The fields, in order.

    Raises:
        MalformedReplyError: A field is missing or empty, or the text fits no such form.
    """
    for found in _json_objects(content):
        values = [_tidy(text) for name in names if isinstance(text := found.get(name), str)]
        if len(values) == len(names) and all(values):
            return dict(zip(names, values, strict=True))
    # What began as JSON and is none was cut off or garbled: its pieces must not pass as sentences.
    looks_like_json = content.lstrip("` \n").startswith(("{", "[", "json")) or any(
        f'"{name}"' in content for name in names
    )
    if not looks_like_json:
        for reader in (_labelled, _numbered, _lines):
            values = [_tidy(text) for text in reader(content, names)]
            if len(values) == len(names) and all(values):
                return dict(zip(names, values, strict=True))
    raise MalformedReplyError(f"expected {' and '.join(names)}, found {content[:200]!r}")


def _json_objects(content: str) -> Iterator[dict[str, object]]:
    decoder = json.JSONDecoder(strict=False)  # models put raw line breaks into strings
    start = content.find("{")
    while start >= 0:
        try:
            found, end = decoder.raw_decode(content, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if isinstance(found, dict):
                yield found
        start = content.find("{", end)


def _labelled(content: str, names: Sequence[str]) -> list[str]:
    """Texts after `Text:`, `Reverse text:` or, for short, `Reverse:`, in the order of the names."""
    values = []
    labels = [rf"{name.replace('_', '[_ ]')}|{name.partition('_')[0]}" for name in names]
    any_label = rf"^\W*(?:{'|'.join(labels)})\W*:"
    for label in labels:
        found = re.search(rf"(?ims)^\W*(?:{label})\W*:(.*?)(?={any_label}|\Z)", content)
        values.append(found[1] if found else "")
    return values


def _numbered(content: str, names: Sequence[str]) -> list[str]:
    found = ITEM.findall(content)
    return [text for _, text in found] if [number for number, _ in found] == _counted(len(names)) else []


def _counted(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


def _lines(content: str, names: Sequence[str]) -> list[str]:
    """The whole text for a single field, else one line a field."""
    return [content] if len(names) == 1 else [line for line in content.splitlines() if line.strip()]


def _tidy(text: str) -> str:
    return " ".join(text.split()).strip("*` ")
