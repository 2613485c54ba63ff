"""Settings of whatever asks a language model; the steps' `Options` inherit them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from data_prep.llm.replies import LONGEST_DETAIL
from data_prep.parts import Part

ANSWER_FORMATS = ("auto", "json_schema", "json_object", "text")
NO_KEY = "none"  # the client library wants some key; endpoints without keys ignore it
OPTIONAL_NUMBERS = (
    "requests_per_minute",
    "tokens_per_minute",
    "max_tokens",
    "max_cost",
    "limit",
    "stop_after_failures",
)
ASSUMED_ANSWER_TOKENS = 400  # where no `max_tokens` bounds an answer
SHORTEST_SECRET = 12  # characters; a shorter key, such as `EMPTY`, may be an ordinary word


@dataclass(kw_only=True)
class ModelOptions:
    """Options of the endpoint, of sampling, of pace and of money.

    Attributes:
        base_url: The OpenAI-compatible endpoint, e.g. `http://localhost:8000/v1`; None is OpenAI's own.
        model: The model's name at the endpoint.
        api_key_env: Name of the environment variable with the endpoint's key; a local endpoint may need none.
        prompt: The prompt's YAML file, or the name of a shipped prompt, such as `difference`.
        answer_format: How answers are structured: `json_schema`, `json_object`, `text`, or `auto`: the first of these
            that the endpoint takes.
        temperature: Sampling temperature; None leaves it to the endpoint.
        max_tokens: Most tokens of an answer; a longer one is a failure. None leaves it to the endpoint.
        extra: Further fields of each request, e.g. `{top_p: 0.9}` or `{max_completion_tokens: 400}`.
        concurrency: Requests under way at once.
        requests_per_minute: Budget; None is without.
        tokens_per_minute: Budget; None is without.
        timeout: Seconds that one request may take.
        attempts: How often a request is made before its failure is recorded; waiting out a 429 does not count.
        stop_after_failures: The run stops after so many failed questions in a row, whatever the reason; None never stops.
        longest_wait: Seconds that the endpoint may ask to wait (`Retry-After`); the run stops if it asks for more.
        price_per_million_input: Price of a million prompt tokens.
        price_per_million_output: Price of a million answer tokens.
        max_cost: The run stops before all answers in the output together would cost more; None is without.
        limit: Ask at most so many questions in this run; None asks all.
        retry_failed: Ask again what was recorded as failed.
        part: Process one of several parts, e.g. `1/4` to `4/4` on four machines, each with an output of its own; None is
            everything.
        dry_run: Print the first requests and an estimate of tokens and cost, and ask nothing.
        batch_submit: For backend `batch`: upload the files to the endpoint's batch API and fetch the answers; else only
            write them, for `vllm run-batch` or the like, and collect from its output files.
        batch_poll: Seconds between two looks at a batch's status.
    """

    base_url: str | None = None
    model: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    prompt: str = ""
    answer_format: str = "auto"
    temperature: float | None = 0.7
    max_tokens: int | None = 400
    extra: dict[str, Any] = field(default_factory=dict)
    concurrency: int = 64
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout: float = 60.0
    attempts: int = 5
    stop_after_failures: int | None = 100
    longest_wait: float = 600.0
    price_per_million_input: float = 0.0
    price_per_million_output: float = 0.0
    max_cost: float | None = None
    limit: int | None = None
    retry_failed: bool = False
    part: str | None = None
    dry_run: bool = False
    batch_submit: bool = True
    batch_poll: float = 60.0

    def check(self, step: str) -> None:
        """Check what the types do not.

        Raises:
            ValueError: A value out of range, or two that do not go together.
        """
        if not self.model:
            raise ValueError(f"{step}.model is not set; name the model as the endpoint knows it")
        if self.answer_format not in ANSWER_FORMATS:
            raise ValueError(f"{step}.answer_format must be one of {', '.join(ANSWER_FORMATS)}: {self.answer_format!r}")
        for name in ("concurrency", "attempts", "timeout", "longest_wait", "batch_poll"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{step}.{name} must be above 0, found {getattr(self, name)}")
        for name in OPTIONAL_NUMBERS:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{step}.{name} must be above 0, or null for none; found {value}")
        if self.max_cost is not None and self.price_per_million_input + self.price_per_million_output <= 0:
            raise ValueError(
                f"{step}.max_cost needs {step}.price_per_million_input and {step}.price_per_million_output"
            )
        Part.parse(self.part, f"{step}.part")
        if not all("!" <= character <= "~" for character in self._key):
            raise ValueError(
                f"environment variable {self.api_key_env}: a key consists of printable ASCII characters without spaces; "
                "check that it holds the key alone, on one line"
            )
        address = urlsplit(self.base_url or "")
        if address.username or address.password or address.query:
            raise ValueError(
                f"{step}.base_url must hold no user, password or query, for it is written to logs; "
                f"put the key into the environment variable {self.api_key_env} instead"
            )

    def api_key(self) -> str:
        """The endpoint's key, from the environment.

        Raises:
            ValueError: There is none, and the endpoint is OpenAI's own.
        """
        if not self._key and self.base_url is None:
            raise ValueError(
                f"environment variable {self.api_key_env} is not set; put the endpoint's key there, "
                "or set base_url to an endpoint that needs none"
            )
        return self._key or NO_KEY

    @property
    def most_answer_tokens(self) -> int:
        """Tokens that an answer is assumed to have at most."""
        return self.max_tokens or ASSUMED_ANSWER_TOKENS

    @property
    def _key(self) -> str:
        return os.environ.get(self.api_key_env, "").strip()

    def clean(self, text: str) -> str:
        """Return what an endpoint says without the key, escaped or not, and fit to be printed; not for answers' texts."""
        if self._key:
            text = _key_pattern(self._key).sub("[key]", text)
        return text.encode("utf-8", "replace").decode()[:LONGEST_DETAIL]

    def repeats_key(self, texts: Iterable[str]) -> bool:
        """Return whether a text holds the key, unless it is so short that it may be an ordinary word."""
        return len(self._key) >= SHORTEST_SECRET and any(self._key in text for text in texts)

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost."""
        input_cost = prompt_tokens * self.price_per_million_input
        return (input_cost + completion_tokens * self.price_per_million_output) / 1e6


@lru_cache(maxsize=1)
def _key_pattern(key: str) -> re.Pattern[str]:
    """Match a key as it is, and with characters escaped as in JSON or in URLs."""
    characters = (
        rf"\\{{0,4}}(?:{re.escape(c)}|u00{ord(c):02x}|%{ord(c):02x}|u00{ord(c):02X}|%{ord(c):02X})" for c in key
    )
    pattern = "".join(characters)
    return re.compile(pattern if len(key) >= SHORTEST_SECRET else rf"(?<!\w){pattern}(?!\w)")
