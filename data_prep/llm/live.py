"""Ask the open questions with one request each, in concurrent workers."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

from tqdm import tqdm

from data_prep.llm.client import ChatClient
from data_prep.llm.pace import Pace, RunEndedError
from data_prep.llm.questions import Question
from data_prep.llm.replies import NoAnswerError, Reply
from data_prep.llm.run import Run
from data_prep.progress import progress


class LiveRun:
    """Worker pool that asks the open questions of a run and records each answer at once.

    Args:
        run: The run.
        name: Name of the step, for the progress bar.
    """

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        self._ended = asyncio.Event()
        self._questions = run.open()
        self._failures_in_a_row = 0
        self._workers = min(run.options.concurrency, run.to_ask)
        pace = Pace(run.options.requests_per_minute, run.options.tokens_per_minute, self._ended)
        self._client = ChatClient(run.options, run.requests, pace, self._workers)
        self._bar: tqdm[None] = progress((), total=run.to_ask, desc=name, unit="request")

    async def ask(self) -> None:
        """Ask until all questions are asked or the run stops.

        Raises:
            StopRunError: An error affects all questions. The answers so far are recorded.
        """
        workers = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        async with aclosing(self._client):
            with self._signals(workers), self._bar:
                if workers:
                    await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                self._ended.set()  # after an error, pending requests are still completed
                outcomes = await asyncio.gather(*workers, return_exceptions=True)
        for error in outcomes:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error
        if self._run.missing and not self._run.stopped:
            self._run.stopped = "limit"

    async def _work(self) -> None:
        while not self._ended.is_set() and (question := next(self._questions, None)) is not None:
            try:
                await self._answer(question)
            except RunEndedError:
                return

    async def _answer(self, question: Question) -> None:
        make = self._run.requests.messages
        try:
            messages = await asyncio.to_thread(make, question) if question.pictures else make(question)
        except NoAnswerError as error:
            self._record(question, Reply(error))
            return
        reserved = self._run.reserve(messages)
        if reserved is None:
            self._ended.set()
            return
        try:
            reply = await self._client.ask(messages)
        finally:
            self._run.release(reserved)
        self._record(question, reply)

    def _record(self, question: Question, reply: Reply) -> None:
        run = self._run
        run.record(question, reply)
        self._failures_in_a_row = self._failures_in_a_row + 1 if isinstance(reply.outcome, NoAnswerError) else 0
        if self._failures_in_a_row == run.options.stop_after_failures:
            self._end("failures")
        self._bar.set_postfix_str(f"{run.failed} failed, cost {run.cost:.2f}", refresh=False)
        self._bar.update()

    def _end(self, why: str) -> None:
        self._run.stopped = self._run.stopped or why
        self._ended.set()

    @contextmanager
    def _signals(self, workers: list[asyncio.Task[None]]) -> Iterator[None]:
        """Handle SIGINT and SIGTERM: the first signal ends the run after the pending requests, the second one at once."""

        def end(name: str) -> None:
            if self._ended.is_set():
                for worker in workers:
                    worker.cancel()
                return
            self._end(name)
            print(f"{name}: completing the pending requests; send it again to stop at once", flush=True)

        loop = asyncio.get_running_loop()
        caught = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        for number in caught:
            loop.add_signal_handler(number, end, number.name)
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)
