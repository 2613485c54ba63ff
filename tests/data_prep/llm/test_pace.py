"""Rate limits, the shared pause and Retry-After. Only lower bounds of waits are checked, so that slow machines pass."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone

import pytest

from data_prep.llm.pace import Pace, RunEndedError, retry_after


async def many(pace: Pace) -> None:
    await asyncio.gather(*(pace.wait(100) for _ in range(11)))


async def more_tokens_than_estimated(pace: Pace) -> None:
    await pace.wait(400)
    pace.correct(200)
    await pace.wait(0)


async def fewer_tokens_than_estimated(pace: Pace) -> None:
    await pace.wait(1e9)
    pace.correct(-1e9)
    await pace.wait(0)


async def pause(pace: Pace) -> None:
    pace.pause(0.4)
    pace.pause(0.1)  # a shorter one does not end it
    await many(pace)


async def pause_during_a_wait(pace: Pace) -> None:
    await pace.wait(0)
    waiting = asyncio.create_task(pace.wait(0))
    await asyncio.sleep(0)
    pace.pause(0.4)
    await waiting


@pytest.mark.parametrize(
    ("ask", "requests_per_minute", "tokens_per_minute", "least", "most"),
    [
        (many, 3000, None, 0.19, 60),
        # ten waits for 100 tokens each at 500 a second; those of a second may go at once
        (many, None, 30_000, 0.9, 60),
        (more_tokens_than_estimated, None, 30_000, 0.18, 60),
        (fewer_tokens_than_estimated, None, 30_000, 0, 60),
        (pause, None, None, 0.4, 60),
        (pause_during_a_wait, 1200, None, 0.4, 60),
        (many, None, None, 0, 60),
    ],
)
def test_waits(
    ask: Callable[[Pace], Awaitable[None]],
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    least: float,
    most: float,
) -> None:
    started = time.monotonic()
    asyncio.run(ask(Pace(requests_per_minute, tokens_per_minute, asyncio.Event())))
    assert least <= time.monotonic() - started < most


@pytest.mark.parametrize(("limits", "pause"), [((1, None), 0), ((None, 1), 0), ((None, None), 3600)])
def test_every_wait_ends_with_the_run(limits: tuple[int | None, int | None], pause: float) -> None:
    async def go() -> None:
        ended = asyncio.Event()
        pace = Pace(*limits, ended)
        await pace.wait(100)
        pace.pause(pause)
        waiting = asyncio.create_task(pace.wait(100))
        await asyncio.sleep(0.01)
        ended.set()
        with pytest.raises(RunEndedError):
            await asyncio.wait_for(waiting, 60)

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
