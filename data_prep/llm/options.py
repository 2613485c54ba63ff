"""Options of the steps that ask a language model."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from data_prep.llm.replies import LONGEST_DETAIL

NO_KEY = "none"  # for endpoints without keys, since the client library requires one
ASSUMED_ANSWER_TOKENS = 400  # if `max_tokens` is not set
SHORTEST_SECRET = 12  # characters; a shorter key, such as `EMPTY`, may be an ordinary word


@dataclass(kw_only=True)
class ModelOptions:
    """Options of the endpoint, sampling, rate limits and cost."""

    base_url: str | None = None
    """OpenAI-compatible endpoint, e.g. `http://localhost:8000/v1`. Default: OpenAI's own."""
    model: str = ""
    """The model's name at the endpoint."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable with the API key. A local endpoint may need no key."""
    prompt: str = ""
    """YAML file with the prompt, or the name of a shipped prompt, such as `difference`."""
    answer_format: Literal["auto", "json_schema", "json_object", "text"] = "auto"
    """Response format. `auto` uses the first of the others that the endpoint accepts."""
    temperature: float | None = 0.7
    """Sampling temperature. Null: the endpoint's default."""
    max_tokens: PositiveInt | None = 400
    """Maximum tokens of an answer. A longer answer is a failure. Null: the endpoint's default."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Additional fields of each request, e.g. `{top_p: 0.9}` or `{max_completion_tokens: 400}`."""
    concurrency: PositiveInt = 64
    """Number of concurrent requests."""
    requests_per_minute: PositiveInt | None = None
    """Rate limit of requests."""
    tokens_per_minute: PositiveInt | None = None
    """Rate limit of prompt and answer tokens."""
    timeout: PositiveFloat = 60.0
    """Timeout of a request, in seconds."""
    attempts: PositiveInt = 5
    """Maximum number of requests for a question. Responses with status 429 do not count."""
    stop_after_failures: PositiveInt | None = 100
    """Stop after this many consecutive failed questions. Null: never."""
    longest_wait: PositiveFloat = 600.0
    """Maximum `Retry-After` in seconds. The run stops if the endpoint asks for more."""
    price_per_million_input: NonNegativeFloat = 0.0
    """Price of a million prompt tokens."""
    price_per_million_output: NonNegativeFloat = 0.0
    """Price of a million answer tokens."""
    max_cost: PositiveFloat | None = None
    """Maximum cost of all answers in the output. The run stops before it is exceeded."""
    limit: PositiveInt | None = None
    """Maximum number of questions in this run."""
    retry_failed: bool = False
    """Ask the failed questions again."""
    part: str | None = None
    """Process one of several parts, e.g. `1/4` to `4/4` on four machines. Each part needs its own output."""
    dry_run: bool = False
    """Print the first requests and estimates of tokens and cost. Ask nothing."""
    batch_submit: bool = True
    """Backend `batch`: use the endpoint's batch API. False only writes the request files and reads the output files, for
    `vllm run-batch` and similar programs."""
    batch_poll: PositiveFloat = 60.0
    """Seconds between status requests of a batch."""

    def check(self, step: str) -> None:
        """Check what the types of the fields do not say.

        Raises:
            ValueError: An option is invalid, or two options conflict.
        """
        if not self.model:
            raise ValueError(f"{step}.model is not set; give the model's name at the endpoint")
        if self.max_cost is not None and not self.price_per_million_input + self.price_per_million_output:
            raise ValueError(
                f"{step}.max_cost needs {step}.price_per_million_input and {step}.price_per_million_output"
            )
        if not all("!" <= character <= "~" for character in self._key):
            raise ValueError(
                f"environment variable {self.api_key_env}: an API key has only printable ASCII characters and no spaces; "
                "set the variable to the key alone, on one line"
            )
        address = urlsplit(self.base_url or "")
        if address.username or address.password or address.query:
            raise ValueError(
                f"{step}.base_url must not contain a user, password or query, since it is logged; "
                f"set the environment variable {self.api_key_env} instead"
            )

    def api_key(self) -> str:
        """Return the API key from the environment.

        Raises:
            ValueError: There is none, and the endpoint is OpenAI's own.
        """
        if not self._key and self.base_url is None:
            raise ValueError(
                f"environment variable {self.api_key_env} is not set; set it to the API key, or set base_url "
                "to an endpoint without keys"
            )
        return self._key or NO_KEY

    @property
    def answer_formats(self) -> tuple[str, ...]:
        """Response formats to try, in order."""
        return ("json_schema", "json_object", "text") if self.answer_format == "auto" else (self.answer_format,)

    @property
    def most_answer_tokens(self) -> int:
        """Assumed maximum tokens of an answer."""
        return self.max_tokens or ASSUMED_ANSWER_TOKENS

    @property
    def _key(self) -> str:
        return os.environ.get(self.api_key_env, "").strip()

    def clean(self, text: str) -> str:
        """Return an endpoint's message for logs: without the API key, valid Unicode, and not too long."""
        if self._key:
            text = _key_pattern(self._key).sub("[key]", text)
        return text.encode("utf-8", "replace").decode()[:LONGEST_DETAIL]

    def repeats_key(self, texts: Iterable[str]) -> bool:
        """Return whether a text contains the API key. Always False for short keys, which may be ordinary words."""
        return len(self._key) >= SHORTEST_SECRET and any(self._key in text for text in texts)

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return the cost of these tokens."""
        input_cost = prompt_tokens * self.price_per_million_input
        return (input_cost + completion_tokens * self.price_per_million_output) / 1e6


@lru_cache(maxsize=1)
def _key_pattern(key: str) -> re.Pattern[str]:
    """Return a pattern that matches a key, also with characters escaped as in JSON or URLs."""
    characters = (
        rf"\\{{0,4}}(?:{re.escape(c)}|u00{ord(c):02x}|%{ord(c):02x}|u00{ord(c):02X}|%{ord(c):02X})" for c in key
    )
    pattern = "".join(characters)
    return re.compile(pattern if len(key) >= SHORTEST_SECRET else rf"(?<!\w){pattern}(?!\w)")
