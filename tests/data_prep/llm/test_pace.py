"""Rate limits, the shared pause and Retry-After. Only lower bounds of waits are checked, so that slow machines pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone

import pytest

from data_prep.llm.pace import Pace, RunEndedError, retry_after


def times(
    ask: Callable[[Pace], Awaitable[object]],
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
) -> float:
    """Seconds that something takes with a pace."""

    async def go() -> float:
        pace = Pace(requests_per_minute, tokens_per_minute, asyncio.Event())
        started = time.monotonic()
        await ask(pace)
        return time.monotonic() - started

    return asyncio.run(go())


async def many(pace: Pace) -> None:
    await asyncio.gather(*(pace.wait(100) for _ in range(11)))


def test_requests_a_minute() -> None:
    assert times(many, requests_per_minute=3000) >= 0.19


def test_tokens_a_minute() -> None:
    # ten waits for 100 tokens each at 500 a second, with one second's tokens at once
    assert times(many, tokens_per_minute=30_000) >= 0.9
    assert times(many, tokens_per_minute=600_000) < 60


def test_tokens_are_corrected_by_what_was_used() -> None:
    async def ask(pace: Pace) -> None:
        await pace.wait(400)
        pace.correct(200)
        await pace.wait(0)

    assert times(ask, tokens_per_minute=30_000) >= 0.18

    async def ask_for_less(pace: Pace) -> None:
        await pace.wait(1e9)
        pace.correct(-1e9)
        await pace.wait(0)

    assert times(ask_for_less, tokens_per_minute=30_000) < 60


def test_a_pause_holds_every_request_and_a_shorter_one_does_not_end_it() -> None:
    async def ask(pace: Pace) -> None:
        pace.pause(0.3)
        pace.pause(0.1)
        await pace.wait(0)

    assert times(ask) >= 0.3


def test_a_pause_that_begins_during_a_wait_is_waited_out_too() -> None:
    async def ask(pace: Pace) -> None:
        await pace.wait(0)
        waiting = asyncio.create_task(pace.wait(0))
        await asyncio.sleep(0)
        pace.pause(0.4)
        await waiting

    assert times(ask, requests_per_minute=1200) >= 0.4


@pytest.mark.parametrize("limits", [(1, None), (None, 1), (None, None)])
def test_every_wait_ends_with_the_run(limits: tuple[int | None, int | None]) -> None:
    async def go() -> None:
        ended = asyncio.Event()
        pace = Pace(*limits, ended)
        await pace.wait(100)
        pace.pause(3600 if limits == (None, None) else 0)
        waiting = asyncio.create_task(pace.wait(100))
        await asyncio.sleep(0.01)
        ended.set()
        with pytest.raises(RunEndedError):
            await asyncio.wait_for(waiting, 30)

    asyncio.run(go())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)) == seconds
