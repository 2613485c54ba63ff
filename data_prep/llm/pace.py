"""When the next request may go out: budgets per minute, one pause for all, and how long to wait after a failure."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

FIRST_BACKOFF = 0.5  # seconds
LONGEST_BACKOFF = 60.0

Sleep = Callable[[float], Awaitable[None]]


class Budget:
    """So many units a minute, spread evenly.

    Args:
        per_minute: Units; None is without limit.
    """

    def __init__(self, per_minute: int | None) -> None:
        self._seconds_per_unit = 60.0 / per_minute if per_minute else 0.0
        self._free_at = 0.0

    def reserve(self, units: float, now: float) -> float:
        """Take units and return the seconds to wait until they may be used."""
        begin = max(self._free_at, now)
        self._free_at = begin + units * self._seconds_per_unit
        return begin - now

    def correct(self, units: float) -> None:
        """Take so many more units than were reserved, or give them back if negative."""
        self._free_at += units * self._seconds_per_unit


class Pace:
    """Holds every request back until it may go out.

    Args:
        requests_per_minute: Budget of requests.
        tokens_per_minute: Budget of tokens.
        sleep: Waits for seconds; may raise to end the waiting for good.
        clock: Seconds that never run backwards.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        sleep: Sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests, self._tokens = Budget(requests_per_minute), Budget(tokens_per_minute)
        self.sleep = sleep
        self._clock = clock
        self._paused_until = 0.0

    async def wait(self, tokens: float) -> None:
        """Wait for the budgets and until no pause is on.

        Args:
            tokens: Estimate of the request's tokens; `correct` it when they are known.
        """
        now = self._clock()
        seconds = max(self._requests.reserve(1, now), self._tokens.reserve(tokens, now))
        if seconds > 0:
            await self.sleep(seconds)
        while (seconds := self._paused_until - self._clock()) > 0:
            # a little apart, so that not all come back in the same instant
            await self.sleep(seconds + random.uniform(0, min(1.0, 0.1 * seconds)))

    def correct(self, tokens: float) -> None:
        """Say how many more tokens a request took than was estimated."""
        self._tokens.correct(tokens)

    def pause(self, seconds: float) -> None:
        """Hold back every request, of all workers, for so long from now."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: exponential with full jitter."""
    return random.uniform(0, min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(failures, 16)))


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that an answer's `Retry-After-Ms` or `Retry-After` (seconds or a date) asks to wait, or None."""
    try:
        return max(0.0, float(headers.get("retry-after-ms", "")) / 1000)
    except ValueError:
        pass
    given = headers.get("retry-after", "")
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(given)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - (now or datetime.now(timezone.utc))).total_seconds())
