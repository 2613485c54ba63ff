"""One run of a task: open questions, costs, and the recording of answers and failures.

`live` (one request per question) and `batch_run` (batch files) share it.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from data_prep.line_index import Hashes
from data_prep.llm.journal import Journal, Keys, Mask
from data_prep.llm.options import ModelOptions
from data_prep.llm.questions import Message, Question, QuestionList, Requests, estimate_tokens
from data_prep.llm.replies import NoAnswerError, Reply
from data_prep.parts import hash64

REMEDY = "choose another `output`, or delete the file to start again"


class Run:
    """Counts of questions, tokens and cost, over all runs so far.

    Args:
        task: The questions.
        requests: Maker of their requests.
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
        """Reason why this run ends early, or empty."""
        self._reserved = 0.0  # maximum cost of the pending requests
        self._open = open_questions(journal.done, journal.failed, hashes, options)

    @property
    def missing(self) -> int:
        """Number of questions without an answer or a failure."""
        return self.questions - self.answered - self.failed

    @property
    def to_ask(self) -> int:
        """Number of questions to ask in this run."""
        return min(int(self._open.sum()), self.options.limit or self.questions)

    @property
    def cost(self) -> float:
        """Cost of all answers so far."""
        return self.options.cost(self.prompt_tokens, self.completion_tokens)

    def open(self) -> Iterator[Question]:
        """Yield the questions to ask in this run."""
        return islice(self.task.chosen(self._open), self.options.limit)

    def unanswered(self, ids: Hashes) -> Iterator[Question]:
        """Yield the unanswered questions whose ids have these hashes."""
        return self.task.chosen(np.isin(self.hashes, ids) & ~self.journal.done.have(self.hashes))

    def reserve(self, messages: list[Message]) -> float | None:
        """Reserve and return the maximum cost of a request. If it exceeds `max_cost`, stop the run and return None."""
        most = self.options.cost(estimate_tokens(messages), self.options.most_answer_tokens)
        if self.options.max_cost is not None and self.cost + self._reserved + most > self.options.max_cost:
            self.stopped = self.stopped or "max_cost"
            return None
        self._reserved += most
        return most

    def release(self, reserved: float) -> None:
        """Release a reservation, after the tokens of the answer were counted."""
        self._reserved -= reserved

    def record(self, question: Question, reply: Reply) -> None:
        """Record and count an answer or a failure."""
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
    """Return which questions to ask, (questions,)."""
    missing = ~done.have(hashes)
    return missing if options.retry_failed else missing & ~failed.have(hashes)


def check_questions(task: QuestionList, requests: Requests, journal: Journal, hashes: Hashes) -> None:
    """Check that all earlier answers belong to the questions as they are now. Takes about 20 microseconds per question.

    Raises:
        ValueError: A question is invalid, is not in the input any more, or had other captions.
    """
    kept = {journal.output: journal.done, journal.failures: journal.failed}
    for file, keys in kept.items():
        if not task.sampled and not np.isin(keys.ids, hashes).all():
            raise ValueError(f"{file}: has a `{task.id_key}` that the input does not have; {REMEDY}")
    everything = task.chosen(np.ones(len(hashes), dtype=np.bool_))
    for question, *found in zip(everything, journal.done.get(hashes), journal.failed.get(hashes), strict=True):
        for file, key in zip(kept, found, strict=True):
            if key and key != hash64(requests.key(question)):
                raise ValueError(
                    f"{file}: {task.id_key} {question.id!r} was asked with other captions than the input has now; {REMEDY}"
                )
