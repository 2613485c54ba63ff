"""Client of an OpenAI-compatible endpoint: asks one question, with retries."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx2
import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, wait_random_exponential

from data_prep.llm.options import ModelOptions
from data_prep.llm.pace import Pace, retry_after
from data_prep.llm.questions import Message, Requests, estimate_tokens
from data_prep.llm.replies import LONGEST_BODY, Completion, NoAnswerError, Reply, load

FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 60.0  # seconds
RATE_LIMITS_IN_A_ROW = 20  # per worker, without an answer in between; then the run stops
REPORTED_WAIT = 10.0  # seconds; shorter waits are not printed


class StopRunError(ValueError):
    """An error that affects all questions: a rejected key, an unknown model, an exhausted account, or no response at all."""


class _TooLongError(httpx2.TransportError):
    """Raised by `_BoundedStream`. The answer then counts as malformed, not as a connection error."""


class _BoundedStream(httpx2.AsyncByteStream):
    """Body of a response that raises if it exceeds a number of bytes. The client library has no such limit."""

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
    """Limit the body of a response. The limit is lower if it is compressed, since decompression enlarges it."""
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    most = LONGEST_BODY // 100 if "content-encoding" in response.headers else LONGEST_BODY
    response.stream = _BoundedStream(response.stream, most)


class ChatClient:
    """Client of one endpoint, shared by all workers.

    tenacity retries a question. Code here handles what affects all questions: the pause after a status 429, the choice of
    the answer format, and the end of a run after too many errors.

    Args:
        options: Endpoint, limits and number of attempts.
        requests: Maker of the requests' bodies.
        pace: Rate limits, shared by all requests.
        workers: Number of concurrent callers.
    """

    def __init__(self, options: ModelOptions, requests: Requests, pace: Pace, workers: int) -> None:
        self._options, self._requests, self._pace = options, requests, pace
        limits = httpx2.Limits(max_connections=options.concurrency, max_keepalive_connections=options.concurrency)
        self._client = openai.AsyncOpenAI(
            base_url=options.base_url,
            api_key=options.api_key(),
            max_retries=0,
            timeout=options.timeout,
            default_headers={"Accept-Encoding": "identity"},
            http_client=openai.DefaultAsyncHttpxClient(
                limits=limits, timeout=options.timeout, event_hooks={"response": [_bound]}
            ),
        )
        self._where = f"{self._client.base_url}, model {options.model}"
        self._formats = options.answer_formats
        self._format, self._format_is_known = self._formats[0], len(self._formats) == 1
        self._backoff = wait_random_exponential(multiplier=FIRST_BACKOFF, max=LONGEST_BACKOFF)
        # One slow question does not end the run. Two rounds of all workers without any response do.
        self._most_timeouts = max(options.attempts + 1, 2 * workers)
        self._timeouts_in_a_row = self._rate_limits_in_a_row = 0
        self._reported_until = 0.0

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def ask(self, messages: list[Message]) -> Reply:
        """Ask until there is an answer or a final failure.

        Raises:
            StopRunError: An error that affects all questions.
            RunEndedError: The run ended while this question waited.
        """
        reply = await self._attempt(messages, Reply(NoAnswerError("not_asked")))
        if reply.retryable and self._options.attempts > 1:  # only failures pay for tenacity, 0.1 ms
            retrying = AsyncRetrying(
                before=self._back_off,
                stop=stop_after_attempt(self._options.attempts - 1),
                retry=retry_if_result(lambda reply: reply.retryable),
                retry_error_callback=lambda state: reply,
            )
            await retrying(self._attempt, messages, reply)
        return reply

    async def _back_off(self, state: RetryCallState) -> None:
        outcome = state.args[1].outcome
        await self._pace.sleep(self._backoff(state) if outcome.wait is None else outcome.wait)

    async def _attempt(self, messages: list[Message], reply: Reply) -> Reply:
        reply.attempts += 1
        estimate = estimate_tokens(messages)
        try:
            reply.outcome = self._read(await self._request(messages, estimate), reply, estimate)
        except NoAnswerError as error:
            reply.outcome = error
        return reply

    async def _request(self, messages: list[Message], estimate: int) -> bytes:
        """Return the body of a response. Requests that got status 429 or a rejected answer format are repeated.

        Raises:
            NoAnswerError: There is no response.
        """
        answer_format = self._format
        while True:
            await self._pace.wait(estimate + (self._options.max_tokens or 0))
            try:
                body = await self._send(self._requests.body(messages, answer_format))
            except openai.RateLimitError as error:
                self._rate_limited(error)
            except openai.APIStatusError as error:
                answer_format = self._after_refusal(answer_format, error)
            else:
                if not self._format_is_known:
                    self._format, self._format_is_known = answer_format, True
                return body

    async def _send(self, body: dict[str, object]) -> bytes:
        """Return the body of the response.

        Raises:
            NoAnswerError: There is no response, or the endpoint has an error.
            openai.APIStatusError: Status 429, or the endpoint rejects the request.
        """
        try:
            # The raw response, since the library's objects are slow to build.
            response = await asyncio.wait_for(
                self._client.post("/chat/completions", cast_to=httpx2.Response, body=body), self._options.timeout
            )
        except (asyncio.TimeoutError, openai.APITimeoutError):
            self._timeouts_in_a_row += 1
            if self._timeouts_in_a_row >= self._most_timeouts:
                raise StopRunError(
                    f"{self._where}: none of the last {self._timeouts_in_a_row} requests got a response within "
                    f"{self._options.timeout} s; check the endpoint or raise timeout, and run again"
                ) from None
            raise NoAnswerError("timeout", f"no answer within {self._options.timeout} s", retryable=True) from None
        except openai.APIConnectionError as error:
            self._timeouts_in_a_row = 0
            reason = "malformed" if isinstance(error.__cause__, _TooLongError) else "connection"
            raise NoAnswerError(reason, str(error.__cause__ or error), retryable=True) from None
        except openai.APIStatusError as error:
            self._timeouts_in_a_row = 0
            self._check_status(error)
            raise
        self._rate_limits_in_a_row = self._timeouts_in_a_row = 0
        return response.content

    def _check_status(self, error: openai.APIStatusError) -> None:
        """Raise the error for an HTTP status. Return for status 429 and for a rejected request."""
        status, detail = error.status_code, self._options.clean(error.message)
        if status in (401, 403, 404):
            key = f"check the key in {self._options.api_key_env}"
            remedy = {401: key, 403: f"{key} and what it may use", 404: "check model and base_url"}[status]
            raise StopRunError(f"{self._where}: {status}, {detail}; {remedy}") from None
        if status in (408, 409) or status >= 500:
            wait = self._asked_wait(error, detail)
            raise NoAnswerError(f"http_{status}", detail, retryable=True, wait=wait) from None

    def _after_refusal(self, used: str, error: openai.APIStatusError) -> str:
        """Return the answer format to try after a request was rejected.

        Raises:
            NoAnswerError: No format is left, so the endpoint rejects the question itself.
        """
        if self._format_is_known:
            following = tuple({self._format} - {used})
        else:
            following = self._formats[self._formats.index(used) + 1 :]
            if used == self._format:
                self._format = (following or self._formats)[0]
                print(f"the endpoint rejects answer format {used}; trying {self._format}")
        if not following:
            raise NoAnswerError("bad_request", f"{error.status_code}, {error.message}")
        return following[0]

    def _rate_limited(self, error: openai.RateLimitError) -> None:
        """Pause all requests, or end the run after too many in a row."""
        detail = self._options.clean(error.message)
        self._rate_limits_in_a_row += 1
        rounds = self._rate_limits_in_a_row // self._options.concurrency
        if error.code == "insufficient_quota":
            raise StopRunError(f"{self._where}: the account is exhausted ({detail})")
        if self._rate_limits_in_a_row > RATE_LIMITS_IN_A_ROW * self._options.concurrency:
            raise StopRunError(
                f"{self._where}: {self._rate_limits_in_a_row} requests in a row were answered 429 "
                f"({detail}); lower concurrency or set requests_per_minute"
            )
        backoff = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2**rounds)
        self._pace.pause(self._asked_wait(error, detail, backoff) or 0.0)

    def _asked_wait(self, error: openai.APIStatusError, detail: str, otherwise: float | None = None) -> float | None:
        """Return the seconds that a response asks to wait, or `otherwise`. A long wait is printed once for all workers.

        Raises:
            StopRunError: The wait is longer than `longest_wait`.
        """
        asked = retry_after(error.response.headers)
        if asked is not None and asked > self._options.longest_wait:
            raise StopRunError(
                f"{self._where}: asks to wait {asked:.0f} s ({detail}), longer than longest_wait "
                f"({self._options.longest_wait:.0f} s); run again after that, or raise longest_wait"
            )
        seconds = otherwise if asked is None else asked
        until = time.time() + (seconds or 0.0)
        if seconds is not None and seconds >= REPORTED_WAIT and until > self._reported_until + REPORTED_WAIT:
            self._reported_until = until
            clock = time.strftime("%H:%M:%S", time.localtime(until))
            print(f"{self._where}: {detail}; waiting {seconds:.0f} s, until {clock}", flush=True)
        return seconds

    def _read(self, body: bytes, reply: Reply, prompt_estimate: int) -> dict[str, str]:
        """Return the fields of an answer. Its tokens count even if it is malformed."""
        prompt_tokens, completion_tokens = prompt_estimate, min(len(body) // 4, self._options.most_answer_tokens)
        try:
            completion = load(body, Completion)
            prompt_tokens, completion_tokens = completion.tokens(prompt_estimate)
            return self._requests.read(completion)
        finally:
            reply.prompt_tokens += prompt_tokens
            reply.completion_tokens += completion_tokens
            self._pace.correct(prompt_tokens + completion_tokens - prompt_estimate - (self._options.max_tokens or 0))
