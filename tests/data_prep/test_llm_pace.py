"""Budgets, the shared pause and Retry-After, against a clock of our own."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone

import pytest

from data_prep.llm.pace import LONGEST_BACKOFF, Pace, backoff, retry_after


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def times(pace: Pace, clock: Clock, count: int, tokens: float = 0) -> list[float]:
    async def go() -> list[float]:
        found = []
        for _ in range(count):
            await pace.wait(tokens)
            found.append(round(clock.now, 6))
        return found

    return asyncio.run(go())


def test_requests_a_minute() -> None:
    clock = Clock()
    assert times(Pace(120, None, clock.sleep, clock), clock, 4) == [0, 0.5, 1.0, 1.5]


def test_tokens_a_minute_are_corrected_by_what_was_used() -> None:
    clock = Clock()
    pace = Pace(None, 600, clock.sleep, clock)
    assert times(pace, clock, 3, tokens=10) == [0, 1, 2]
    pace.correct(20)
    assert times(pace, clock, 1, tokens=10) == [5]
    pace.correct(-10)
    assert times(pace, clock, 1, tokens=10) == [5]


def test_unused_budget_is_not_saved_up() -> None:
    clock = Clock()
    pace = Pace(60, None, clock.sleep, clock)
    times(pace, clock, 1)
    clock.now = 100
    assert times(pace, clock, 3) == [100, 101, 102]


def test_without_budgets_nothing_waits() -> None:
    clock = Clock()
    assert times(Pace(None, None, clock.sleep, clock), clock, 5, tokens=1e9) == [0] * 5


def test_a_pause_holds_everybody_and_a_shorter_one_does_not_end_it() -> None:
    clock = Clock()
    pace = Pace(None, None, clock.sleep, clock)
    pace.pause(10)
    pace.pause(3)
    first, second = times(pace, clock, 2)
    assert 10 <= first <= 11.1
    assert second == first


def test_a_pause_that_begins_during_a_wait_is_waited_out_too() -> None:
    clock = Clock()
    pace = Pace(60, None, clock.sleep, clock)

    async def two() -> None:
        await pace.wait(0)
        pace.pause(5)
        await pace.wait(0)

    asyncio.run(two())
    assert 5 <= clock.now <= 5.6


NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)


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
    assert retry_after(headers, NOW) == seconds


def test_backoff_grows_and_is_bounded() -> None:
    longest = [max(backoff(failures) for _ in range(200)) for failures in (0, 3, 500)]
    assert longest[0] <= 0.5 < longest[1] <= 4 < longest[2] <= LONGEST_BACKOFF
    assert min(backoff(3) for _ in range(200)) < 1
