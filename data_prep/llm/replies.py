"""Read a model's response: the requested JSON, or something close to it.

pydantic checks the fields. The code here limits time and memory, and finds answers in prose and on labelled lines.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    AliasPath,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from data_prep.files import SURROGATE

LONGEST_BODY = 2_000_000  # bytes of a response
LONGEST_CONTENT = 200_000  # characters of an answer
LONGEST_DETAIL = 300  # characters kept of a message of the endpoint
MOST_TOKENS = 10_000_000  # of one request; a larger number is ignored
MOST_OBJECTS = 100  # positions in an answer at which to look for JSON

OBJECT = re.compile(r'\{\s*"')
ITEM = re.compile(r"(?m)^[^\w\n]*(\d+)[.):][^\w\n]*(.*)$")

T = TypeVar("T")


class NoAnswerError(ValueError):
    """An attempt without an answer.

    Args:
        reason: The reason in one word.
        detail: What was found instead of an answer.
        retryable: Whether to try again.
        wait: Seconds that the endpoint asks to wait before the next attempt.
    """

    def __init__(self, reason: str, detail: str = "", *, retryable: bool = False, wait: float | None = None) -> None:
        super().__init__(detail)
        self.reason, self.retryable, self.wait = reason, retryable, wait


@dataclass
class Reply:
    """Result and cost of a question."""

    outcome: dict[str, str] | NoAnswerError
    """Fields of the answer, or the reason why there is none."""
    attempts: int = 0
    """Number of requests, without those that got status 429."""
    prompt_tokens: int = 0
    """Prompt tokens of all attempts."""
    completion_tokens: int = 0
    """Answer tokens of all attempts."""

    @property
    def retryable(self) -> bool:
        """Whether to try again."""
        return isinstance(self.outcome, NoAnswerError) and self.outcome.retryable


def malformed(detail: str) -> NoAnswerError:
    """Return the error for a response without the requested fields."""
    return NoAnswerError("malformed", detail, retryable=True)


def token_count(value: object) -> int:
    """Return a number of tokens. 0 for an impossible value."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MOST_TOKENS:
        return 0
    return int(value)


def _none_if_invalid(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError:
        return None


Lenient = Annotated[T | None, WrapValidator(_none_if_invalid)]
Tokens = Annotated[int, BeforeValidator(token_count)]


class Completion(BaseModel):
    """Used parts of a chat completion. Missing or wrongly typed parts are None, or 0 tokens."""

    content: Lenient[str] = Field(None, validation_alias=AliasPath("choices", 0, "message", "content"))
    refusal: Lenient[str] = Field(None, validation_alias=AliasPath("choices", 0, "message", "refusal"))
    finish_reason: Lenient[str] = Field(None, validation_alias=AliasPath("choices", 0, "finish_reason"))
    prompt_tokens: Tokens = Field(0, validation_alias=AliasPath("usage", "prompt_tokens"))
    completion_tokens: Tokens = Field(0, validation_alias=AliasPath("usage", "completion_tokens"))

    def tokens(self, prompt_estimate: int) -> tuple[int, int]:
        """Return the numbers of prompt and answer tokens, estimated if the endpoint does not report them."""
        answer_estimate = math.ceil(len(self.content or "") / 4)
        return self.prompt_tokens or prompt_estimate, self.completion_tokens or answer_estimate

    def text(self) -> str:
        """Return the model's text.

        Raises:
            NoAnswerError: There is none, it is longer than `LONGEST_CONTENT`, or the model was cut off or refused.
        """
        if self.finish_reason in ("length", "content_filter"):
            raise NoAnswerError(self.finish_reason)
        if self.refusal:
            raise NoAnswerError("refusal", self.refusal)
        if self.content is None:
            raise malformed("the response holds no message with a text")
        if len(self.content) > LONGEST_CONTENT:
            raise malformed(f"the answer is longer than {LONGEST_CONTENT} characters")
        return self.content


M = TypeVar("M", bound=BaseModel)


def load(body: bytes, model: type[M]) -> M:
    """Parse JSON as a pydantic model.

    Uses Python's parser, because pydantic's rejects a response with a very long number.

    Raises:
        NoAnswerError: Not JSON of this model, longer than `LONGEST_BODY`, or nested too deeply.
    """
    if len(body) > LONGEST_BODY:
        raise malformed(f"the response is longer than {LONGEST_BODY} bytes")
    try:
        return model.model_validate(json.loads(body, parse_int=_integer))
    except (ValueError, RecursionError):
        start = body[:LONGEST_DETAIL].decode("utf-8", "replace")
        raise malformed(f"the response is not the protocol's JSON: {start!r}") from None


def _integer(digits: str) -> float:
    """Parse an integer. Python takes quadratic time for long integers or rejects them, so they become infinity."""
    return int(digits) if len(digits) < 20 else math.inf


def _tidy(text: str) -> str:
    tidied = " ".join(text.split()).strip("*` ")
    if not tidied or SURROGATE.search(tidied):
        raise ValueError("the text is empty or holds half a surrogate pair")
    return tidied


Text = Annotated[str, AfterValidator(_tidy)]
"""Type of a field of an answer: a non-empty text on one line, without Markdown around it."""


def parse_reply(content: str, answer: type[BaseModel], *, lines: bool = False) -> dict[str, str]:
    """Find the fields of an answer in JSON (alone, in a code fence or in prose), or on labelled or numbered lines.

    Args:
        content: The model's message.
        answer: Pydantic model of the answer. Its fields are texts.
        lines: Also accept plain text: one line per field, or the whole text for a single field. This also accepts refusals.

    Raises:
        NoAnswerError: A field is missing or invalid.
    """
    names = list(answer.model_fields)
    for found in _candidates(content, names, lines):
        try:
            return answer.model_validate(found).model_dump()
        except ValidationError:
            continue
    raise malformed(f"expected {' and '.join(names)}, found {content[:200]!r}")


def _candidates(content: str, names: list[str], lines: bool) -> Iterator[dict[str, Any]]:
    yield from _json_objects(content)
    # Broken JSON was cut off or garbled. Its pieces must not be taken for sentences.
    if content.lstrip("` \n").startswith(("{", "[", "json")) or any(f'"{name}"' in content for name in names):
        return
    # Labels such as `Text:`, `Reverse text:` or `Reverse:`. If a label is repeated, the first text counts.
    labels = {label: name for name in names for label in (name.partition("_")[0], name, name.replace("_", " "))}
    parts = re.split(rf"(?im)^[^\w\n]*({'|'.join(sorted(labels, key=len, reverse=True))})[^\w\n]*:", content)
    labelled = list(zip(parts[1::2], parts[2::2], strict=True))
    yield {labels[label.lower()]: text for label, text in reversed(labelled)}
    items = ITEM.findall(content)
    if [number for number, _ in items] == [str(number) for number in range(1, len(names) + 1)]:
        yield {name: text for name, (_, text) in zip(names, items, strict=True)}
    if lines:
        texts = [content] if len(names) == 1 else [line for line in content.splitlines() if line.strip()]
        yield dict(zip(names, texts, strict=False)) if len(texts) == len(names) else {}


def _json_objects(content: str) -> Iterator[dict[str, Any]]:
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
