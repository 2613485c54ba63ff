"""One question to an OpenAI-compatible endpoint: tried until it is answered, or until its failure is certain."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from types import TracebackType

import httpx2
import openai

from data_prep.llm.options import ANSWER_FORMATS, NO_KEY, ModelOptions
from data_prep.llm.pace import Pace, backoff, retry_after
from data_prep.llm.prompt import Message
from data_prep.llm.replies import LONGEST_DETAIL, FailedAnswerError, MalformedReplyError, read_answer
from data_prep.llm.task import Requests, estimate_tokens

RATE_LIMITS_IN_A_ROW = 20  # by each worker, with no answer between them: then the run stops


class StopRunError(ValueError):
    """What no repetition can mend: a refused key, an unknown model, an exhausted account, an endpoint that is down."""


@dataclass
class Reply:
    """How a question ended.

    Attributes:
        values: The answer's fields, or None for a failure.
        reason: Of a failure, in one word.
        detail: Of a failure, as the endpoint put it.
        attempts: Requests made, those answered 429 not counted.
        prompt_tokens: Of all attempts.
        completion_tokens: Of all attempts.
    """

    values: dict[str, str] | None = None
    reason: str = ""
    detail: str = ""
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class _Retry(Exception):
    """An attempt that came to nothing but may be repeated."""

    reason: str
    detail: str
    transport: bool = True
    wait: float | None = None


@dataclass
class _Refused(Exception):
    """The endpoint does not take the request as it is (400 and the like)."""

    detail: str


@dataclass
class _Failed(Exception):
    """An answer that is certain to be none."""

    reason: str
    detail: str = ""


@dataclass
class _Formats:
    """Which answer format the endpoint takes. Found out by one request at a time, before all others set out."""

    candidates: tuple[str, ...]
    settled: bool = False
    index: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def current(self) -> str:
        return self.candidates[self.index]


class ChatClient:
    """Asks one endpoint. Use it as an asynchronous context manager.

    Args:
        options: Endpoint, limits and attempts.
        requests: Makes the requests' bodies.
        pace: Shared by all requests.
        api_key: The endpoint's key; it is removed from whatever the endpoint says.
    """

    def __init__(self, options: ModelOptions, requests: Requests, pace: Pace, api_key: str) -> None:
        self._options, self._requests, self._pace, self._key = options, requests, pace, api_key
        limits = httpx2.Limits(max_connections=options.concurrency, max_keepalive_connections=options.concurrency)
        self._client = openai.AsyncOpenAI(
            base_url=options.base_url,
            api_key=api_key,
            max_retries=0,  # the pause after a 429 is shared, which the library's own retries cannot do
            timeout=options.timeout,
            http_client=openai.DefaultAsyncHttpxClient(limits=limits, timeout=options.timeout),
        )
        formats = ANSWER_FORMATS[1:] if options.answer_format == "auto" else (options.answer_format,)
        self._formats = _Formats(formats, settled=len(formats) == 1)
        self._rate_limits_in_a_row = 0
        self._lost_in_a_row = 0

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.close()

    @property
    def answer_format(self) -> str:
        """The answer format in use."""
        return self._formats.current

    async def ask(self, messages: list[Message]) -> Reply:
        """Ask until there is an answer, or a failure that is to be recorded.

        Raises:
            StopRunError: No further question will fare better.
        """
        reply = Reply()
        estimate = estimate_tokens(messages) + (self._options.max_tokens or 0)
        while True:
            await self._pace.wait(estimate)
            try:
                reply.values = await self._attempt(messages, reply, estimate)
            except openai.RateLimitError as error:
                self._rate_limited(error)
                continue
            except _Retry as retry:
                reply.reason, reply.detail = retry.reason, retry.detail
                if reply.attempts < self._options.attempts:
                    await self._pace.sleep(backoff(reply.attempts - 1) if retry.wait is None else retry.wait)
                    continue
                if retry.transport:
                    self._lost(reply)
            except _Refused as refused:
                reply.reason, reply.detail = "bad_request", refused.detail
                self._lost(reply)
            except _Failed as failed:
                reply.reason, reply.detail = failed.reason, failed.detail
            else:
                reply.reason = reply.detail = ""
            return reply

    async def _attempt(self, messages: list[Message], reply: Reply, estimate: int) -> dict[str, str]:
        found = None if self._formats.settled else await self._discover(messages, reply, estimate)
        return found or await self._send(messages, self._formats.current, reply, estimate)

    async def _discover(self, messages: list[Message], reply: Reply, estimate: int) -> dict[str, str] | None:
        """Ask while trying one format after the other; None if another request has found the format meanwhile."""
        formats = self._formats
        async with formats.lock:
            await self._pace.sleep(0)  # the run may have ended while this request waited for its turn
            while not formats.settled:
                try:
                    return await self._send(messages, formats.current, reply, estimate)
                except _Refused as refused:
                    if formats.index + 1 == len(formats.candidates):
                        formats.index = 0  # all were refused: it is the question that the endpoint does not take
                        raise
                    print(f"{self._where}: answer format {formats.current} refused ({refused.detail}); trying the next")
                    formats.index += 1
                    reply.attempts -= 1
        return None

    async def _send(self, messages: list[Message], answer_format: str, reply: Reply, estimate: int) -> dict[str, str]:
        reply.attempts += 1
        body = self._requests.body(messages, answer_format)
        try:
            # the raw response: building the library's objects takes longer than all of our own work
            response = await asyncio.wait_for(
                self._client.post("/chat/completions", cast_to=httpx2.Response, body=body), self._options.timeout
            )
        except (asyncio.TimeoutError, openai.APITimeoutError):
            raise _Retry("timeout", f"no answer within {self._options.timeout} s") from None
        except openai.RateLimitError:
            reply.attempts -= 1
            raise
        except openai.APIConnectionError as error:
            raise _Retry("connection", self._redact(str(error.__cause__ or error))[:LONGEST_DETAIL]) from None
        except openai.APIStatusError as error:
            raise self._status(error) from None
        self._formats.settled = True
        self._rate_limits_in_a_row = self._lost_in_a_row = 0
        return self._read(response.content, reply, estimate)

    def _status(self, error: openai.APIStatusError) -> Exception:
        status, detail = error.status_code, self._redact(error.message)[:LONGEST_DETAIL]
        if status in (401, 403, 404):
            remedy = {401: f"check the key in {self._options.api_key_env}", 404: "check model and base_url"}
            remedy[403] = remedy[401] + " and what it may use"
            return StopRunError(f"{self._where}: {status}, {detail}; {remedy[status]}")
        if status in (408, 409) or status >= 500:
            return _Retry(f"http_{status}", detail, wait=retry_after(error.response.headers))
        return _Refused(f"{status}, {detail}")

    def _rate_limited(self, error: openai.RateLimitError) -> None:
        """Hold back all requests, or end the run if that has not helped for long."""
        self._rate_limits_in_a_row += 1
        if error.code == "insufficient_quota":
            raise StopRunError(f"{self._where}: the account is exhausted ({self._redact(error.message)})")
        if self._rate_limits_in_a_row > RATE_LIMITS_IN_A_ROW * self._options.concurrency:
            raise StopRunError(
                f"{self._where}: {self._rate_limits_in_a_row} requests in a row were answered 429 "
                f"({self._redact(error.message)}); lower concurrency or set requests_per_minute"
            )
        rounds = self._rate_limits_in_a_row // self._options.concurrency
        asked = retry_after(error.response.headers)
        self._pace.pause(backoff(rounds + 1) if asked is None else asked)

    def _lost(self, reply: Reply) -> None:
        """Count questions that the endpoint never answered; too many in a row mean that it is down."""
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= max(20, 2 * self._options.concurrency):
            raise StopRunError(
                f"{self._where}: the last {self._lost_in_a_row} questions got no answer "
                f"({reply.reason}: {reply.detail}); mend the endpoint and run again with retry_failed=true"
            )

    def _read(self, content: bytes, reply: Reply, estimate: int) -> dict[str, str]:
        """The fields of an answer; its tokens are counted whatever it holds."""
        try:
            answer = json.loads(content)
            usage = answer.get("usage") or {}
            prompt_tokens, completion_tokens = (
                int(usage.get(f"{side}_tokens") or 0) for side in ("prompt", "completion")
            )
        except (ValueError, TypeError, AttributeError):
            raise _Retry("malformed", "the response is not the protocol's JSON", transport=False) from None
        reply.prompt_tokens += prompt_tokens
        reply.completion_tokens += completion_tokens
        if prompt_tokens or completion_tokens:
            self._pace.correct(prompt_tokens + completion_tokens - estimate)
        try:
            return read_answer(answer, list(self._requests.prompt.answer), self._redact)
        except MalformedReplyError as error:
            raise _Retry("malformed", str(error), transport=False) from None
        except FailedAnswerError as error:
            raise _Failed(error.reason, str(error)) from None

    def _redact(self, text: str) -> str:
        return text if self._key == NO_KEY else text.replace(self._key, "[key]")

    @property
    def _where(self) -> str:
        return f"{self._client.base_url}, model {self._options.model}"
