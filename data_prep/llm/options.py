"""Settings of whatever asks a language model; the steps' `Options` inherit them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

ANSWER_FORMATS = ("auto", "json_schema", "json_object", "text")
NO_KEY = "none"  # the client library wants some key; endpoints without keys ignore it


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
        price_per_million_input: Price of a million prompt tokens.
        price_per_million_output: Price of a million answer tokens.
        max_cost: The run stops before all answers in the output together would cost more; None is without.
        limit: Ask at most so many questions in this run; None asks all.
        retry_failed: Ask again what was recorded as failed.
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
    price_per_million_input: float = 0.0
    price_per_million_output: float = 0.0
    max_cost: float | None = None
    limit: int | None = None
    retry_failed: bool = False
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
        for name in ("concurrency", "attempts", "timeout", "batch_poll"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{step}.{name} must be above 0, found {getattr(self, name)}")
        for name in ("requests_per_minute", "tokens_per_minute", "max_tokens", "max_cost", "limit"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{step}.{name} must be above 0, or null for none; found {value}")
        if self.max_cost is not None and self.price_per_million_input + self.price_per_million_output <= 0:
            raise ValueError(
                f"{step}.max_cost needs {step}.price_per_million_input and {step}.price_per_million_output"
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
        key = os.environ.get(self.api_key_env, "").strip()
        if not key and self.base_url is None:
            raise ValueError(
                f"environment variable {self.api_key_env} is not set; put the endpoint's key there, "
                "or set base_url to an endpoint that needs none"
            )
        return key or NO_KEY

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost."""
        input_cost = prompt_tokens * self.price_per_million_input
        return (input_cost + completion_tokens * self.price_per_million_output) / 1e6
