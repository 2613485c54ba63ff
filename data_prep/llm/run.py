"""One run of a task: which questions are open, what they may cost, and how answers and failures are recorded.

Asking one by one (`live`) and by batch files (`batch`) share this.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from data_prep.llm.journal import Hashes, Journal, Keys, Mask
from data_prep.llm.options import ModelOptions
from data_prep.llm.questions import Message, Question, QuestionList, Requests, estimate_tokens
from data_prep.llm.replies import NoAnswerError, Reply
from data_prep.parts import hash64

REMEDY = "choose another `output`, or delete the file to start again"


class Run:
    """Counts over all runs so far, and what this run adds to them.

    Args:
        task: The questions.
        requests: Makes their requests.
        options: Limits and prices.
        journal: The open journal.
        hashes: From `question_hashes`.
    """

    def __init__(
        self, task: QuestionList, requests: Requests, options: ModelOptions, journal: Journal, hashes: Hashes
    ) -> None:
        self.task, self.requests, self.options, self.journal, self.hashes = task, requests, options, journal, hashes
        self.questions = len(hashes)
        self.answered, self.failed = int(journal.done.have(hashes).sum()), int(journal.failed.have(hashes).sum())
        self.prompt_tokens = journal.done.prompt_tokens + journal.failed.prompt_tokens
        self.completion_tokens = journal.done.completion_tokens + journal.failed.completion_tokens
        self.answered_now = self.failed_now = 0
        self.stopped = ""
        """Why this run ends early, or empty."""
        self._reserved = 0.0  # cost of the requests under way, at most
        self._open = open_questions(journal.done, journal.failed, hashes, options)

    @property
    def missing(self) -> int:
        """Number of questions with neither answer nor failure."""
        return self.questions - self.answered - self.failed

    @property
    def to_ask(self) -> int:
        """Number of questions that this run is to ask."""
        return min(int(self._open.sum()), self.options.limit or self.questions)

    @property
    def cost(self) -> float:
        """Cost of all answers so far."""
        return self.options.cost(self.prompt_tokens, self.completion_tokens)

    def open(self) -> Iterator[Question]:
        """Yield the questions that this run is to ask."""
        return islice(self.task.chosen(self._open), self.options.limit)

    def unanswered(self, ids: Hashes) -> Iterator[Question]:
        """Yield the questions with these hashes that have no answer."""
        return self.task.chosen(np.isin(self.hashes, ids) & ~self.journal.done.have(self.hashes))

    def reserve(self, messages: list[Message]) -> float | None:
        """Set aside what a request costs at most, or return None and stop the run if that exceeds `max_cost`."""
        most = self.options.cost(estimate_tokens(messages), self.options.most_answer_tokens)
        if self.options.max_cost is not None and self.cost + self._reserved + most > self.options.max_cost:
            self.stopped = self.stopped or "max_cost"
            return None
        self._reserved += most
        return most

    def release(self, reserved: float) -> None:
        """Free what `reserve` set aside, when the tokens of the answer are counted."""
        self._reserved -= reserved

    def record(self, question: Question, reply: Reply) -> None:
        """Write an answer or a failure, and count it."""
        provenance = {
            "model": self.options.model,
            "prompt": self.requests.prompt.label,
            "attempts": reply.attempts,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "key": self.requests.key(question),
        }
        if isinstance(reply.outcome, NoAnswerError):
            clean = self.options.clean
            reason = {"reason": clean(reply.outcome.reason), "detail": clean(str(reply.outcome))}
            self.failed += not self.journal.failure({self.task.id_key: question.id, **reason, **provenance})
            self.failed_now += 1
        else:
            self.failed -= self.journal.answered({**question.row, **reply.outcome, **provenance})
            self.answered += 1
            self.answered_now += 1
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens

    def counts(self) -> dict[str, int | float]:
        """Return the counts for the manifest."""
        names = ("questions", "answered", "failed", "prompt_tokens", "completion_tokens")
        return {**{name: getattr(self, name) for name in names}, "cost": round(self.cost, 6)}


def question_hashes(task: QuestionList) -> Hashes:
    """Return 64-bit hashes of the ids of all questions.

    Raises:
        ValueError: An id occurs twice.
    """
    hashes = np.fromiter((hash64(name) for name in task.ids()), dtype=np.uint64)
    unique, counts = np.unique(hashes, return_counts=True)
    twice = set(unique[counts > 1].tolist())
    for name in task.ids() if twice else ():
        if hash64(name) in twice:
            raise ValueError(f"{task.id_key} {name!r} occurs twice; it must be unique")
    return hashes


def open_questions(done: Keys, failed: Keys, hashes: Hashes, options: ModelOptions) -> Mask:
    """Return which questions are to be asked."""
    missing = ~done.have(hashes)
    return missing if options.retry_failed else missing & ~failed.have(hashes)


def check_questions(task: QuestionList, requests: Requests, journal: Journal, hashes: Hashes) -> None:
    """Check all questions, and that earlier answers belong to them as they are now. Takes some 20 microseconds for each.

    Raises:
        ValueError: A bad question, a row of a question that the input does not have, or one that had other captions.
    """
    kept = {journal.output: journal.done, journal.failures: journal.failed}
    for file, keys in kept.items():
        if not task.sampled and not np.isin(keys.ids, hashes).all():
            raise ValueError(f"{file}: holds a `{task.id_key}` that the input does not have; {REMEDY}")
    everything = task.chosen(np.ones(len(hashes), dtype=np.bool_))
    for question, *found in zip(everything, journal.done.get(hashes), journal.failed.get(hashes), strict=True):
        for file, key in zip(kept, found, strict=True):
            if key and key != hash64(requests.key(question)):
                raise ValueError(
                    f"{file}: {task.id_key} {question.id!r} was asked of other captions than the input holds now; {REMEDY}"
                )
