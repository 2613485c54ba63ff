"""Asking all questions of a task: workers, the journal, money, progress, and stopping in good order."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.llm.client import ChatClient, Reply
from data_prep.llm.journal import Hashes, Journal, Keys, Mask
from data_prep.llm.options import ModelOptions
from data_prep.llm.pace import Pace
from data_prep.llm.task import Question, Requests, Task, UnaskableError, estimate_tokens
from data_prep.manifest import Manifest
from data_prep.parts import hash64
from data_prep.progress import progress
from pcclip.atomic import atomic_text


@dataclass
class Totals:
    """How far a task has come, over all runs so far.

    Attributes:
        questions: In all.
        answered: With an answer in the output.
        failed: With a recorded failure.
        prompt_tokens: Used.
        completion_tokens: Used.
        answered_now: Answered in this run.
        failed_now: Failed in this run.
        stopped: Why this run ended early, or empty.
    """

    questions: int = 0
    answered: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    answered_now: int = 0
    failed_now: int = 0
    stopped: str = ""

    @property
    def missing(self) -> int:
        """Questions with neither answer nor failure."""
        return self.questions - self.answered - self.failed

    @classmethod
    def of(cls, journal: Journal, hashes: Hashes) -> Totals:
        """Totals of what a journal holds: all tokens, and the answers and failures of these questions."""
        kept = (journal.done, journal.failed)
        prompt_tokens, completion_tokens = sum(k.prompt_tokens for k in kept), sum(k.completion_tokens for k in kept)
        answered, failed = (int(k.have(hashes).sum()) for k in kept)
        return cls(len(hashes), answered, failed, prompt_tokens, completion_tokens)

    def add(self, reply: Reply, *, failed_before: bool) -> None:
        """Count one more question, which may have been counted as a failure before."""
        if reply.values is None:
            self.failed += not failed_before
            self.failed_now += 1
        else:
            self.answered_now += 1
            self.answered += 1
            self.failed -= failed_before
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens

    def cost(self, options: ModelOptions) -> float:
        """What the tokens cost."""
        return options.cost(self.prompt_tokens, self.completion_tokens)

    def counts(self, options: ModelOptions) -> dict[str, int | float]:
        """For the manifest."""
        names = ("questions", "answered", "failed", "prompt_tokens", "completion_tokens")
        return {**{name: getattr(self, name) for name in names}, "cost": round(self.cost(options), 6)}


class _InterruptedError(Exception):
    """The run ends: waiting for another attempt is over, and the question stays unanswered for the next run."""


def question_hashes(task: Task) -> Hashes:
    """64-bit hashes of the ids of all questions.

    Raises:
        ValueError: An id occurs twice.
    """
    hashes = np.fromiter((hash64(question_id) for question_id in task.ids()), dtype=np.uint64)
    unique, counts = np.unique(hashes, return_counts=True)
    twice = set(unique[counts > 1].tolist())
    for question_id in task.ids() if twice else ():
        if hash64(question_id) in twice:
            raise ValueError(f"{task.id_key} {question_id!r} occurs twice; it must be unique")
    return hashes


def check_journal(task: Task, requests: Requests, journal: Journal, hashes: Hashes, manifest: Manifest) -> None:
    """Check all questions, and that earlier answers belong to them as they are now.

    A file next to the output records the last check: inputs, options, and which file the output was. The check is repeated
    only if one of them changes.

    Raises:
        ValueError: A bad question, a row of a question that the input does not have, or one that had other captions.
    """
    remedy = "choose another `output`, or delete the file to start again"
    files = (journal.output, journal.failures)
    for keys, file in zip((journal.done, journal.failed), files, strict=True):
        if not task.sampled and not np.isin(keys.ids, hashes).all():
            raise ValueError(f"{file}: holds a `{task.id_key}` that the input does not have; {remedy}")
    checked = checked_path(journal.output)
    settings = [manifest.step_version, manifest.inputs, manifest.options]
    stamp = json.dumps([*settings, journal.output.stat().st_ino], ensure_ascii=False)
    if checked.is_file() and checked.read_bytes() == stamp.encode():
        return
    everything = task.questions(np.ones(len(hashes), dtype=np.bool_))
    for question, *expected in zip(everything, journal.done.get(hashes), journal.failed.get(hashes), strict=True):
        for key, file in zip(expected, files, strict=True):
            if key and key != hash64(requests.key(question)):
                raise ValueError(
                    f"{file}: {task.id_key} {question.id!r} was asked of other captions than the input holds now; {remedy}"
                )
    with atomic_text(checked) as stream:
        stream.write(stamp)


def checked_path(output: Path) -> Path:
    """`.<stem>.checked.json`, next to the output: the record of `check_journal`."""
    return output.with_name(f".{output.stem}.checked.json")


def wanted(done: Keys, failed: Keys, hashes: Hashes, retry_failed: bool) -> Mask:
    """Return which questions are to be asked."""
    missing = ~done.have(hashes)
    return missing if retry_failed else missing & ~failed.have(hashes)


def record(task: Task, requests: Requests, question: Question, reply: Reply, journal: Journal, totals: Totals) -> None:
    """Write an answer or a failure, and count it."""
    provenance = {
        "model": requests.model,
        "prompt": f"{requests.prompt.name}@{requests.prompt.version}",
        "attempts": reply.attempts,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "key": requests.key(question),
    }
    if reply.values is None:
        reason = {task.id_key: question.id, "reason": reply.reason, "detail": reply.detail}
        journal.failure({**reason, **provenance})
    else:
        journal.answered({**question.row, **reply.values, **provenance})
    totals.add(reply, failed_before=question.id in journal.failed)


def answer_all(task: Task, requests: Requests, options: ModelOptions, output: Path, manifest: Manifest) -> Totals:
    """Ask what has no answer yet, and write each answer as it comes.

    Args:
        task: The questions.
        requests: Makes their requests.
        options: Endpoint, pace and limits.
        output: The JSON Lines of the answers; its failures are next to it.
        manifest: Of the step; says whether the questions were checked before.

    Raises:
        ValueError: A bad input or journal, or an endpoint with which it is useless to go on; what was answered is kept.
    """
    hashes = question_hashes(task)
    with Journal(output, task.id_key, requests.settings_digest) as journal:
        check_journal(task, requests, journal, hashes, manifest)
        run = _Run(task, requests, options, journal, manifest.step, hashes)
        asyncio.run(run.answer(wanted(journal.done, journal.failed, hashes, options.retry_failed)))
    return run.totals


class _Run:
    def __init__(
        self, task: Task, requests: Requests, options: ModelOptions, journal: Journal, name: str, hashes: Hashes
    ) -> None:
        self.task, self.requests, self.options, self.journal, self.name = task, requests, options, journal, name
        self.totals = Totals.of(journal, hashes)
        self.reserved = 0.0  # money that the requests under way may cost at most
        self.failures_in_a_row = 0

    async def answer(self, asked: Mask) -> None:
        options, totals = self.options, self.totals
        self.stop = asyncio.Event()
        self.questions = islice(self.task.questions(asked), options.limit)
        pace = Pace(options.requests_per_minute, options.tokens_per_minute, self._sleep)
        missing = int(asked.sum())
        total = missing if options.limit is None else min(missing, options.limit)
        count = min(options.concurrency, total)
        self.bar: tqdm[None] = progress((), total=total, desc=self.name, unit="request")
        async with ChatClient(options, self.requests, pace, count) as client:
            workers = [asyncio.create_task(self._work(client)) for _ in range(count)]
            with self._signals(workers), self.bar:
                if workers:
                    await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                self.stop.set()  # after an error, what is under way is still taken in
                ended = await asyncio.gather(*workers, return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error
        if not totals.stopped and totals.missing:
            totals.stopped = "limit"

    async def _work(self, client: ChatClient) -> None:
        while not self.stop.is_set():
            question = next(self.questions, None)
            if question is None:
                return
            try:
                await self._answer(client, question)
            except _InterruptedError:
                return

    async def _answer(self, client: ChatClient, question: Question) -> None:
        try:
            messages = (
                await asyncio.to_thread(self.requests.messages, question)
                if question.pictures
                else self.requests.messages(question)
            )
        except UnaskableError as error:
            self._note(question, Reply(reason=error.reason, detail=str(error)))
            return
        most = self.options.cost(estimate_tokens(messages), self.options.most_answer_tokens)
        if (
            self.options.max_cost is not None
            and self.totals.cost(self.options) + self.reserved + most > self.options.max_cost
        ):
            self._end("max_cost")
            return
        self.reserved += most
        try:
            reply = await client.ask(messages)
        finally:
            self.reserved -= most
        self._note(question, reply)

    def _note(self, question: Question, reply: Reply) -> None:
        record(self.task, self.requests, question, reply, self.journal, self.totals)
        self.failures_in_a_row = 0 if reply.values else self.failures_in_a_row + 1
        if self.failures_in_a_row == self.options.stop_after_failures:
            self._end("failures")
        self.bar.set_postfix_str(
            f"{self.totals.failed} failed, cost {self.totals.cost(self.options):.2f}", refresh=False
        )
        self.bar.update()

    def _end(self, why: str) -> None:
        self.totals.stopped = self.totals.stopped or why
        self.stop.set()

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the run."""
        if not self.stop.is_set():
            try:
                await asyncio.wait_for(self.stop.wait(), seconds)
            except asyncio.TimeoutError:
                return
        raise _InterruptedError

    @contextmanager
    def _signals(self, workers: list[asyncio.Task[None]]) -> Iterator[None]:
        """A first signal ends the run when what is under way has come in, a second one at once."""

        def end(name: str) -> None:
            if self.stop.is_set():
                for worker in workers:
                    worker.cancel()
                return
            self._end(name)
            print(f"{name}: taking in what is under way; once more to leave it", flush=True)

        loop = asyncio.get_running_loop()
        caught = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        for number in caught:
            loop.add_signal_handler(number, end, number.name)
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)
