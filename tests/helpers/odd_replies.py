"""Responses with status 200 that are not what the protocol says, by name: bodies to send as they are."""

import json
from typing import Any

DEEP = 100_000  # levels
USAGE = '"usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}'


def completion(content: Any, usage: str = USAGE, **message: Any) -> bytes:
    """A chat completion with any content, and the JSON of its usage."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content, **message}}
    text = json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]})
    return f"{text[:-1]}, {usage}}}".encode() if usage else text.encode()


def fields(value: str) -> str:
    """An answer with the JSON of a value in each field."""
    return f'{{"text": {value}, "reverse_text": {value}}}'


def nested(levels: int) -> Any:
    """Lists within each other."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


GOOD = fields('"The first image shows more, the second less."')

# No answer can be found in these: the question fails.
USELESS: dict[str, bytes] = {
    "surrogate": completion(fields(r'"half of a pair \ud83d."')),
    "raw_surrogate": completion(fields('"half of a pair \ud83d."')),
    "surrogate_lines": completion("Text: half \ud83d.\nReverse text: half \ud83d."),
    "not_utf8": b'{"choices": [{"message": {"content": "\xff\xfe"}}]}',
    "deep_body": b"[" * DEEP,
    "deep_objects": b'{"choices":' * DEEP,
    "deep_content": completion('{"text":' * (DEEP // 10)),
    "deep_fields": completion(fields("[" * DEEP)),
    "deep_refusal": completion(None, refusal=nested(800)),
    "deep_message": completion(nested(800)),
    "many_objects": completion('{"text": ["a"], ' * (DEEP // 10)),
    "blank_lines": completion("\n*" * (DEEP // 2)),
    "long_content": completion("The first image. " * DEEP),
    "huge_body": b'{"choices": [' + b" " * 5_000_000,
    "html": b"<html><body><h1>It works!</h1></body></html>",
    "empty": b"",
    "null": b"null",
    "list": b"[1, 2]",
    "no_choices": b'{"object": "error", "message": "overloaded"}',
    "no_message": b'{"choices": [{}]}',
    "null_content": completion(None),
    "two_line_refusal": completion("I am sorry, I cannot compare these images.\nPlease ask me something else."),
}

# The answer of these is good; only the usage is odd.
ODD_USAGE: dict[str, bytes] = {
    "usage_infinity": completion(GOOD, '"usage": {"prompt_tokens": Infinity, "completion_tokens": 1e999}'),
    "usage_nan": completion(GOOD, '"usage": {"prompt_tokens": NaN, "completion_tokens": NaN}'),
    "usage_large": completion(GOOD, f'"usage": {{"prompt_tokens": 1{"0" * 400}, "completion_tokens": 1{"0" * 400}}}'),
    "usage_long": completion(GOOD, f'"usage": {{"prompt_tokens": 1{"0" * 400_000}, "completion_tokens": 50}}'),
    "usage_list": completion(GOOD, '"usage": [100, 50]'),
    "usage_text": completion(GOOD, '"usage": "n/a"'),
    "usage_texts": completion(GOOD, '"usage": {"prompt_tokens": "n/a", "completion_tokens": "50"}'),
    "usage_negative": completion(GOOD, '"usage": {"prompt_tokens": -100, "completion_tokens": -50}'),
    "usage_null": completion(GOOD, '"usage": null'),
    "usage_missing": completion(GOOD, ""),
}
