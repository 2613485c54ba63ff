"""Reading a model's response: the JSON asked for or something close to it. Responses are parsed, never evaluated.

Whatever a response holds, reading it takes bounded time and memory.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from data_prep.files import SURROGATE

LONGEST_BODY = 2_000_000  # bytes of a response
LONGEST_CONTENT = 200_000  # characters of an answer
LONGEST_DETAIL = 300  # characters kept of what an endpoint says
MOST_TOKENS = 10_000_000  # of one request; a larger number is not believed
MOST_OBJECTS = 100  # places of an answer at which JSON is looked for

OBJECT = re.compile(r'\{\s*"')
ITEM = re.compile(r"\W*(\d+)[.):]\W*(.*)")


class MalformedReplyError(ValueError):
    """A response in which the fields asked for cannot be found."""


class FailedAnswerError(ValueError):
    """A failure that asking again cannot fix, with a reason in one word."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


def load_response(content: bytes) -> Any:
    """Parse a response.

    Raises:
        MalformedReplyError: Not JSON, longer than `LONGEST_BODY`, or nested too deeply.
    """
    if len(content) > LONGEST_BODY:
        raise MalformedReplyError(f"the response is longer than {LONGEST_BODY} bytes")
    try:
        return json.loads(content, parse_int=_integer)
    except (ValueError, RecursionError):
        start = content[:LONGEST_DETAIL].decode("utf-8", "replace")
        raise MalformedReplyError(f"the response is not the protocol's JSON: {start!r}") from None


def read_usage(response: Any, prompt_estimate: int) -> tuple[int, int]:
    """Return the tokens of prompt and answer that a response reports.

    A number that is missing or makes no sense is replaced by `prompt_estimate` or by a quarter of the answer's characters.
    """
    found = response.get("usage") if isinstance(response, dict) else None
    usage = found if isinstance(found, dict) else {}
    content = _message(response).get("content")
    answer_estimate = math.ceil(len(content) / 4) if isinstance(content, str) else 0
    return (
        token_count(usage.get("prompt_tokens")) or prompt_estimate,
        token_count(usage.get("completion_tokens")) or answer_estimate,
    )


def token_count(value: object) -> int:
    """Return a number of tokens, or 0 for a value that cannot be one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MOST_TOKENS:
        return 0
    return int(value)


def read_answer(response: Any, names: Sequence[str], *, lines: bool = False) -> dict[str, str]:
    """Return the fields in a chat completion.

    Args:
        response: The parsed response.
        names: The fields, in order.
        lines: See `parse_reply`.

    Raises:
        MalformedReplyError: They cannot be found.
        FailedAnswerError: The model was cut off, or refused.
    """
    message = _message(response)
    if not message:
        raise MalformedReplyError("the response holds no message")
    finish_reason = response["choices"][0].get("finish_reason")
    if finish_reason in ("length", "content_filter"):
        raise FailedAnswerError(finish_reason)
    content, refusal = message.get("content"), message.get("refusal")
    if refusal:
        raise FailedAnswerError("refusal", refusal[:LONGEST_DETAIL] if isinstance(refusal, str) else "")
    if not isinstance(content, str):
        raise MalformedReplyError("the message holds no text")
    if len(content) > LONGEST_CONTENT:
        raise MalformedReplyError(f"the answer is longer than {LONGEST_CONTENT} characters")
    return parse_reply(content, names, lines=lines)


def parse_reply(content: str, names: Sequence[str], *, lines: bool = False) -> dict[str, str]:
    """Find the fields of an answer: in JSON (alone, in a code fence, or within prose), or on labelled or numbered lines.

    Args:
        content: The model's message.
        names: The fields, in order.
        lines: Accept plain text too: one line for each field, or the whole text for a single one. A refusal is such a text.

    Raises:
        MalformedReplyError: A field is missing, empty or not valid Unicode, or the text fits no such form.
    """
    for found in _json_objects(content):
        values = [_tidy(text) for name in names if isinstance(text := found.get(name), str)]
        if len(values) == len(names) and all(values):
            return dict(zip(names, map(_unicode, values), strict=True))
    # What began as JSON and is none was cut off or garbled: its pieces must not pass as sentences.
    looks_like_json = content.lstrip("` \n").startswith(("{", "[", "json")) or any(
        f'"{name}"' in content for name in names
    )
    readers = (_labelled, _numbered, _lines) if lines else (_labelled, _numbered)
    for reader in () if looks_like_json else readers:
        values = [_tidy(text) for text in reader(content, names)]
        if len(values) == len(names) and all(values):
            return dict(zip(names, map(_unicode, values), strict=True))
    raise MalformedReplyError(f"expected {' and '.join(names)}, found {content[:200]!r}")


def _message(response: Any) -> dict[str, Any]:
    """Return the message of a chat completion, or an empty one."""
    try:
        message = response["choices"][0]["message"]
    except (KeyError, IndexError, TypeError):
        return {}
    return message if isinstance(message, dict) else {}


def _integer(digits: str) -> float:
    """Parse an integer in bounded time: Python takes quadratic time for long ones, or refuses them."""
    return int(digits) if len(digits) < 20 else math.inf


def _json_objects(content: str) -> Iterator[dict[str, object]]:
    decoder = json.JSONDecoder(strict=False, parse_int=_integer)  # models put raw line breaks into strings
    end = 0
    for _ in range(MOST_OBJECTS):
        start = OBJECT.search(content, end)
        if start is None:
            return
        try:
            found, end = decoder.raw_decode(content, start.start())
        except (ValueError, RecursionError):
            end = start.end()
        else:
            yield found


def _labelled(content: str, names: Sequence[str]) -> list[str]:
    """Return the texts after `Text:`, `Reverse text:` or, for short, `Reverse:`, in the order of the names."""
    labels = [re.compile(rf"(?i)\W*(?:{name.replace('_', '[_ ]')}|{name.partition('_')[0]})\W*:(.*)") for name in names]
    texts: list[list[str]] = [[] for _ in names]
    current: list[str] = []  # what precedes the first label, or follows a repeated one, is dropped
    for line in content.splitlines():
        found = [(text, match[1]) for label, text in zip(labels, texts, strict=True) if (match := label.match(line))]
        for text, rest in found[:1]:
            current = [] if text else text
            current.append(rest)
        if not found:
            current.append(line)
    return ["\n".join(text) for text in texts]


def _numbered(content: str, names: Sequence[str]) -> list[str]:
    found = [item for line in content.splitlines() if (item := ITEM.match(line))]
    return [item[2] for item in found] if [item[1] for item in found] == _counted(len(names)) else []


def _counted(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


def _lines(content: str, names: Sequence[str]) -> list[str]:
    """Return the whole text for a single field, else one line for each field."""
    return [content] if len(names) == 1 else [line for line in content.splitlines() if line.strip()]


def _tidy(text: str) -> str:
    return " ".join(text.split()).strip("*` ")


def _unicode(text: str) -> str:
    """Return the text if it can be written as UTF-8."""
    if SURROGATE.search(text):
        raise MalformedReplyError(f"the text holds half of a surrogate pair: {text[:200]!r}")
    return text
