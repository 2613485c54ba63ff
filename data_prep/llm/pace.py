"""Rate limits of requests and tokens, and pauses of all requests."""

import asyncio
import random
import time
from collections.abc import Awaitable, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from aiolimiter import AsyncLimiter


class RunEndedError(Exception):
    """The run ended while a question waited. The next run asks it."""


class Pace:
    """Rate limiter of all requests.

    aiolimiter spreads requests and tokens evenly. This class adds pauses after a status 429, corrects estimated numbers of
    tokens, and ends all waits with the run.

    Args:
        requests_per_minute: Rate limit of requests, or None.
        tokens_per_minute: Rate limit of tokens, or None.
        ended: Event that is set at the end of the run.
    """

    def __init__(self, requests_per_minute: int | None, tokens_per_minute: int | None, ended: asyncio.Event) -> None:
        self._requests = AsyncLimiter(1, 60 / requests_per_minute) if requests_per_minute else None
        self._tokens = AsyncLimiter(tokens_per_minute / 60, 1) if tokens_per_minute else None
        self._unpaid = 0.0  # tokens of earlier requests that the next request has to wait for
        self._turn = asyncio.Lock()
        self._ended = ended
        self._paused_until = 0.0

    async def wait(self, tokens: float) -> None:
        """Wait until the limits and pauses allow the next request.

        Args:
            tokens: Estimated tokens of the request. Call `correct` when their number is known.

        Raises:
            RunEndedError: The run ended while waiting.
        """
        if self._requests is not None:
            await self._until_end(self._requests.acquire())
        if self._tokens is not None:
            await self._until_end(self._pay(self._tokens, tokens))
        while (seconds := self._paused_until - time.monotonic()) > 0:
            # A random delay, so that not all requests are sent at the same time.
            await self.sleep(seconds + random.uniform(0, min(1.0, 0.1 * seconds)))

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the run.

        Raises:
            RunEndedError: The run ended while sleeping.
        """
        await self._until_end(asyncio.sleep(seconds))

    def correct(self, tokens: float) -> None:
        """Add tokens that the estimate missed. A negative number gives tokens back."""
        self._unpaid += tokens

    def pause(self, seconds: float) -> None:
        """Pause the requests of all workers for some seconds."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    async def _pay(self, limiter: AsyncLimiter, tokens: float) -> None:
        async with self._turn:
            while self._unpaid > 0:
                portion = min(self._unpaid, limiter.max_rate)
                await limiter.acquire(portion)
                self._unpaid -= portion
            self._unpaid += tokens

    async def _until_end(self, waiting: Awaitable[None]) -> None:
        both = [asyncio.ensure_future(waiting), asyncio.ensure_future(self._ended.wait())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in both:
                future.cancel()
        if self._ended.is_set():
            raise RunEndedError


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that `Retry-After-Ms` or `Retry-After` (seconds or a date) asks to wait, or None."""
    given = headers.get("retry-after", "")
    for value, unit in ((headers.get("retry-after-ms", ""), 1000), (given, 1)):
        try:
            return max(0.0, float(value) / unit)
        except ValueError:
            continue
    try:
        date = parsedate_to_datetime(given)
    except (ValueError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - (now or datetime.now(timezone.utc))).total_seconds())
