"""One question to an OpenAI-compatible endpoint: tried until it is answered, or until its failure is certain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType

import httpx2
import openai

from data_prep.llm.options import ANSWER_FORMATS, ModelOptions
from data_prep.llm.pace import Pace, backoff, retry_after
from data_prep.llm.prompt import Message
from data_prep.llm.replies import (
    LONGEST_BODY,
    FailedAnswerError,
    MalformedReplyError,
    load_response,
    read_usage,
)
from data_prep.llm.task import Requests, estimate_tokens

RATE_LIMITS_IN_A_ROW = 20  # by each worker, with no answer between them: then the run stops
REPORTED_WAIT = 10.0  # seconds; shorter waits are not printed


class StopRunError(ValueError):
    """A failure of all further questions: a refused key, an unknown model, an exhausted account, a silent endpoint."""


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
    """A failed attempt that may be repeated."""

    reason: str
    detail: str
    wait: float | None = None


@dataclass
class _Refused(Exception):
    """The endpoint does not take the request as it is (400 and the like)."""

    detail: str


@dataclass
class _Formats:
    """Which answer format the endpoint takes: the first that is answered."""

    candidates: tuple[str, ...]
    settled: bool = False
    current: str = field(init=False)

    def __post_init__(self) -> None:
        self.current = self.candidates[0]

    def settle(self, used: str) -> None:
        """Keep to a format that was answered."""
        if not self.settled:
            self.settled, self.current = True, used

    def refuse(self, used: str) -> str | None:
        """Return the format to try after one was refused, or None if there is none."""
        if self.settled:
            return None if used == self.current else self.current
        following = self.candidates[self.candidates.index(used) + 1 :]
        if used == self.current and following:
            print(f"answer format {used} was refused; trying {following[0]}")
        # once all were refused it is the question that the endpoint does not take
        self.current = following[0] if following else self.candidates[0]
        return self.current if following else None


class _TooLongError(httpx2.TransportError):
    """A response that is not read to its end."""


class _BoundedStream(httpx2.AsyncByteStream):
    """A response's body that raises where it exceeds a number of bytes."""

    def __init__(self, stream: httpx2.AsyncByteStream, most: int) -> None:
        self._stream, self._most = stream, most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > self._most:
                raise _TooLongError(f"the response is longer than {self._most} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    """Bound the body of a response, and what it is decompressed to if the endpoint compresses it unasked."""
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    most = LONGEST_BODY // 100 if "content-encoding" in response.headers else LONGEST_BODY
    response.stream = _BoundedStream(response.stream, most)


class ChatClient:
    """Asks one endpoint. Use it as an asynchronous context manager.

    Args:
        options: Endpoint, limits and attempts.
        requests: Makes the requests' bodies.
        pace: Shared by all requests.
        workers: How many callers ask at once.
    """

    def __init__(self, options: ModelOptions, requests: Requests, pace: Pace, workers: int) -> None:
        self._options, self._requests, self._pace = options, requests, pace
        limits = httpx2.Limits(max_connections=options.concurrency, max_keepalive_connections=options.concurrency)
        self._client = openai.AsyncOpenAI(
            base_url=options.base_url,
            api_key=options.api_key(),
            max_retries=0,  # the pause after a 429 is shared, which the library's own retries cannot do
            timeout=options.timeout,
            default_headers={"Accept-Encoding": "identity"},
            http_client=openai.DefaultAsyncHttpxClient(
                limits=limits, timeout=options.timeout, event_hooks={"response": [_bound]}
            ),
        )
        formats = ANSWER_FORMATS[1:] if options.answer_format == "auto" else (options.answer_format,)
        self._formats = _Formats(formats, settled=len(formats) == 1)
        # one slow question alone does not end the run, a second round without any response does
        self._most_timeouts = max(options.attempts + 1, 2 * workers)
        self._timeouts_in_a_row = 0
        self._rate_limits_in_a_row = 0
        self._reported_until = 0.0

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
        answer_format = self._formats.current
        prompt_tokens = estimate_tokens(messages)
        while True:
            if self._formats.settled:
                answer_format = self._formats.current
            await self._pace.wait(prompt_tokens + (self._options.max_tokens or 0))
            try:
                response = await self._send(messages, answer_format, reply)
                reply.values = self._read(response, reply, prompt_tokens)
            except openai.RateLimitError as error:
                self._rate_limited(error)
                continue
            except _Retry as retry:
                reply.reason, reply.detail = retry.reason, self._options.clean(retry.detail)
                if reply.attempts < self._options.attempts:
                    await self._pace.sleep(backoff(reply.attempts - 1) if retry.wait is None else retry.wait)
                    continue
            except _Refused as refused:
                following = self._formats.refuse(answer_format)
                if following is not None:
                    answer_format = following
                    reply.attempts -= 1
                    continue
                reply.reason, reply.detail = "bad_request", self._options.clean(refused.detail)
            except FailedAnswerError as failed:
                reply.reason, reply.detail = failed.reason, self._options.clean(str(failed))
            else:
                reply.reason = reply.detail = ""
            return reply

    async def _send(self, messages: list[Message], answer_format: str, reply: Reply) -> bytes:
        reply.attempts += 1
        body = self._requests.body(messages, answer_format)
        try:
            # the raw response: building the library's objects takes longer than all of our own work
            response = await asyncio.wait_for(
                self._client.post("/chat/completions", cast_to=httpx2.Response, body=body), self._options.timeout
            )
        except (asyncio.TimeoutError, openai.APITimeoutError):
            self._timed_out()
            raise _Retry("timeout", f"no answer within {self._options.timeout} s") from None
        except openai.RateLimitError:
            self._timeouts_in_a_row = 0
            reply.attempts -= 1
            raise
        except openai.APIConnectionError as error:
            self._timeouts_in_a_row = 0
            reason = "malformed" if isinstance(error.__cause__, _TooLongError) else "connection"
            raise _Retry(reason, str(error.__cause__ or error)) from None
        except openai.APIStatusError as error:
            self._timeouts_in_a_row = 0
            raise self._status(error) from None
        self._formats.settle(answer_format)
        self._rate_limits_in_a_row = self._timeouts_in_a_row = 0
        return response.content

    def _timed_out(self) -> None:
        """Count a request without any response, and end the run if there were none but such for two rounds."""
        self._timeouts_in_a_row += 1
        if self._timeouts_in_a_row >= self._most_timeouts:
            raise StopRunError(
                f"{self._where}: none of the last {self._timeouts_in_a_row} requests got a response within "
                f"{self._options.timeout} s; check the endpoint or raise timeout, and run again"
            )

    def _status(self, error: openai.APIStatusError) -> Exception:
        status, detail = error.status_code, self._options.clean(error.message)
        if status in (401, 403, 404):
            remedy = {401: f"check the key in {self._options.api_key_env}", 404: "check model and base_url"}
            remedy[403] = remedy[401] + " and what it may use"
            return StopRunError(f"{self._where}: {status}, {detail}; {remedy[status]}")
        if status in (408, 409) or status >= 500:
            return _Retry(f"http_{status}", detail, self._asked_wait(error.response.headers, detail))
        return _Refused(f"{status}, {detail}")

    def _rate_limited(self, error: openai.RateLimitError) -> None:
        """Hold back all requests, or end the run if that has not helped for long."""
        detail = self._options.clean(error.message)
        self._rate_limits_in_a_row += 1
        if error.code == "insufficient_quota":
            raise StopRunError(f"{self._where}: the account is exhausted ({detail})")
        if self._rate_limits_in_a_row > RATE_LIMITS_IN_A_ROW * self._options.concurrency:
            raise StopRunError(
                f"{self._where}: {self._rate_limits_in_a_row} requests in a row were answered 429 "
                f"({detail}); lower concurrency or set requests_per_minute"
            )
        wait = self._asked_wait(error.response.headers, detail)
        if wait is None:
            wait = backoff(self._rate_limits_in_a_row // self._options.concurrency + 1)
            self._report_wait(wait, detail)
        self._pace.pause(wait)

    def _asked_wait(self, headers: Mapping[str, str], detail: str) -> float | None:
        """Return the seconds that a response asks to wait, or None.

        Raises:
            StopRunError: It is longer than `longest_wait`.
        """
        seconds = retry_after(headers)
        if seconds is not None and seconds > self._options.longest_wait:
            raise StopRunError(
                f"{self._where}: asks to wait {seconds:.0f} s ({detail}), longer than longest_wait "
                f"({self._options.longest_wait:.0f} s); run again after that, or raise longest_wait"
            )
        if seconds is not None:
            self._report_wait(seconds, detail)
        return seconds

    def _report_wait(self, seconds: float, detail: str) -> None:
        """Print a long wait, once for all workers."""
        until = time.time() + seconds
        if seconds >= REPORTED_WAIT and until > self._reported_until + REPORTED_WAIT:
            self._reported_until = until
            clock = time.strftime("%H:%M:%S", time.localtime(until))
            print(f"{self._where}: {detail}; waiting {seconds:.0f} s, until {clock}", flush=True)

    def _read(self, content: bytes, reply: Reply, prompt_estimate: int) -> dict[str, str]:
        """Return the fields of an answer, and count its tokens whatever it holds."""
        prompt_tokens, completion_tokens = prompt_estimate, min(len(content) // 4, self._options.most_answer_tokens)
        try:
            response = load_response(content)
            prompt_tokens, completion_tokens = read_usage(response, prompt_estimate)
            return self._requests.read(response)
        except MalformedReplyError as error:
            raise _Retry("malformed", str(error)) from None
        finally:
            reply.prompt_tokens += prompt_tokens
            reply.completion_tokens += completion_tokens
            self._pace.correct(prompt_tokens + completion_tokens - prompt_estimate - (self._options.max_tokens or 0))

    @property
    def _where(self) -> str:
        return f"{self._client.base_url}, model {self._options.model}"
