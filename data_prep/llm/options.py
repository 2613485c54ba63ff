"""Settings of the steps that ask a language model."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from data_prep.llm.replies import LONGEST_DETAIL

NO_KEY = "none"  # the client library wants some key; endpoints without keys ignore it
ASSUMED_ANSWER_TOKENS = 400  # where no `max_tokens` bounds an answer
SHORTEST_SECRET = 12  # characters; a shorter key, such as `EMPTY`, may be an ordinary word


@dataclass(kw_only=True)
class ModelOptions:
    """Options of the endpoint, of sampling, of pace and of cost."""

    base_url: str | None = None
    """The OpenAI-compatible endpoint, e.g. `http://localhost:8000/v1`; null is OpenAI's own."""
    model: str = ""
    """The model's name at the endpoint."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable with the endpoint's key; a local endpoint may need none."""
    prompt: str = ""
    """The prompt's YAML file, or the name of a shipped prompt, such as `difference`."""
    answer_format: Literal["auto", "json_schema", "json_object", "text"] = "auto"
    """How answers are structured; `auto` is the first of the others that the endpoint takes."""
    temperature: float | None = 0.7
    """Sampling temperature; null leaves it to the endpoint."""
    max_tokens: PositiveInt | None = 400
    """Most tokens of an answer; a longer one is a failure. Null leaves it to the endpoint."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further fields of each request, e.g. `{top_p: 0.9}` or `{max_completion_tokens: 400}`."""
    concurrency: PositiveInt = 64
    """Number of concurrent requests."""
    requests_per_minute: PositiveInt | None = None
    """Rate limit of requests."""
    tokens_per_minute: PositiveInt | None = None
    """Rate limit of prompt and answer tokens."""
    timeout: PositiveFloat = 60.0
    """Timeout of a request, in seconds."""
    attempts: PositiveInt = 5
    """How often a request is made before its failure is recorded; waiting out a 429 does not count."""
    stop_after_failures: PositiveInt | None = 100
    """Stop the run after this number of consecutive failed questions. Null: never."""
    longest_wait: PositiveFloat = 600.0
    """Seconds that the endpoint may ask to wait (`Retry-After`); the run stops if it asks for more."""
    price_per_million_input: NonNegativeFloat = 0.0
    """Price of a million prompt tokens."""
    price_per_million_output: NonNegativeFloat = 0.0
    """Price of a million answer tokens."""
    max_cost: PositiveFloat | None = None
    """The run stops before all answers in the output together would cost more."""
    limit: PositiveInt | None = None
    """Maximum number of questions in this run."""
    retry_failed: bool = False
    """Ask again what was recorded as failed."""
    part: str | None = None
    """Process one of several parts, e.g. `1/4` to `4/4` on four machines, each with an output of its own."""
    dry_run: bool = False
    """Print the first requests and an estimate of tokens and cost, and ask nothing."""
    batch_submit: bool = True
    """For backend `batch`: upload the files to the endpoint's batch API and fetch the answers. False only writes them, for
    `vllm run-batch` or the like, and collects from its output files."""
    batch_poll: PositiveFloat = 60.0
    """Seconds between two requests for a batch's status."""

    def check(self, step: str) -> None:
        """Check what the types of the fields do not say.

        Raises:
            ValueError: A value out of range, or two that do not go together.
        """
        if not self.model:
            raise ValueError(f"{step}.model is not set; name the model as the endpoint knows it")
        if self.max_cost is not None and not self.price_per_million_input + self.price_per_million_output:
            raise ValueError(
                f"{step}.max_cost needs {step}.price_per_million_input and {step}.price_per_million_output"
            )
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
        """Return the endpoint's key, from the environment.

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
    def answer_formats(self) -> tuple[str, ...]:
        """The answer formats to try, in order."""
        return ("json_schema", "json_object", "text") if self.answer_format == "auto" else (self.answer_format,)

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
        """Return the cost of these tokens."""
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
