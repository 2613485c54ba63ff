"""Steps that write a language model's answers: all questions of a task asked, or what would be asked shown."""

from __future__ import annotations

import asyncio
import signal
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.files import read_jsonl
from data_prep.llm.batch_run import BatchRun
from data_prep.llm.journal import Journal, Keys, failures_path
from data_prep.llm.live import LiveRun
from data_prep.llm.options import ModelOptions
from data_prep.llm.questions import QuestionList, Requests
from data_prep.llm.run import Run, check_questions, open_questions, question_hashes
from data_prep.manifest import Manifest
from data_prep.step import Made, OutputStep

HOW_TO_GO_ON = {
    "limit": "as many as `limit` allows were asked; run again for the rest",
    "max_cost": "stopped before `max_cost` is passed; raise it and run again for the rest",
    "batch files": "run again when the output files are there",
    "SIGINT": "interrupted; run again to go on",
    "SIGTERM": "interrupted; run again to go on",
}
SHOWN = 3  # requests of a dry run
SAMPLED = 200  # requests from which the tokens of all are estimated
TOKENS_PER_FIELD = 50  # of an answer: two sentences


@dataclass(kw_only=True)
class ModelStep(ModelOptions, OutputStep):
    """A step whose output is made of a language model's answers. They are kept: a run asks only what is still open."""

    backend: str
    """`openai`: a language model behind an endpoint; `batch`: the same by batch files; others ask no model."""

    @property
    def asks_model(self) -> bool:
        """Whether the backend is a language model."""
        return self.backend in ("openai", "batch")

    @property
    def answers(self) -> Path:
        """The JSON Lines of the answers."""
        return Path(self.output)

    @property
    @abstractmethod
    def requests(self) -> Requests:
        """What makes the requests. A first use raises what `Requests` raises."""

    def check_options(self) -> None:
        """Check `part`, and the endpoint's options and the prompt where they are used."""
        _ = self.own_part
        if self.asks_model:
            _ = self.requests

    def settings(self) -> dict[str, Any]:
        """Return the options that shape the output: with a language model the request's, without one `seed`."""
        of_endpoint = {option.name for option in fields(ModelOptions)} - {"part"}
        settings = {name: value for name, value in super().settings().items() if name not in of_endpoint}
        if self.asks_model:
            settings.pop("seed", None)
            settings |= {"backend": f"openai:{self.model}", **self.requests.settings}
        return settings

    def lock(self) -> AbstractContextManager[None]:
        """Return the lock of the output; a dry run needs none."""
        return nullcontext() if self.dry_run else super().lock()

    def is_current(self, manifest: Manifest) -> bool:
        """Return whether there is nothing to do."""
        resumes = self.asks_model and self.answers == Path(self.output)
        again = self.asks_model and (self.dry_run or (self.retry_failed and failures_path(self.answers).exists()))
        return manifest.matches(Path(self.output), resumes=resumes) and not again

    def ask(self, task: QuestionList) -> Made | None:
        """Ask a task's questions; see the function `ask`."""
        counts = ask(task, self.requests, self, self.answers, self.name, batch=self.backend == "batch")
        return None if counts is None else Made(counts)


def ask(
    task: QuestionList,
    requests: Requests,
    options: ModelOptions,
    output: Path,
    name: str,
    *,
    batch: bool = False,
) -> dict[str, int | float] | None:
    """Ask a task's questions and print how it went.

    Args:
        task: The questions.
        requests: Makes their requests.
        options: Endpoint and limits.
        output: The JSON Lines of the answers.
        name: Name of the step, for the progress bar.
        batch: By batch files rather than one by one.

    Returns:
        The counts if now every question has its answer or its recorded failure, else None.

    Raises:
        ValueError: A bad input or journal, an endpoint with which it is useless to go on, no answer in this run or at
            all, or more failures in a row than `stop_after_failures`.
        SystemExit: The run was stopped by a signal.
    """
    if options.dry_run:
        preview(task, requests, options, output)
        return None
    hashes = question_hashes(task)
    with Journal(output, task.id_key, requests.settings_digest) as journal:
        check_questions(task, requests, journal, hashes)
        run = Run(task, requests, options, journal, hashes)
        if batch:
            BatchRun(run).advance()
        else:
            asyncio.run(LiveRun(run, name).ask())
    used = f"{run.prompt_tokens} + {run.completion_tokens} tokens, cost {run.cost:.2f}"
    print(f"{output}: {run.answered} of {run.questions} answered, {run.failed} failed, {used}")
    failures = failures_path(output)
    if run.failed:
        print("\n".join(failure_summary(failures, task.id_key)))
    nothing = (run.failed and not run.answered) or (run.failed_now and not run.answered_now)
    if run.stopped == "failures" or nothing:
        what = "no question was answered" if nothing else "too many questions failed in a row"
        raise ValueError(f"{output}: {what}; see {failures}. Fix the cause and run again with `retry_failed: true`")
    if not run.stopped:
        return run.counts()
    print(f"{run.missing} are missing: {HOW_TO_GO_ON[run.stopped]}")
    if run.stopped.startswith("SIG"):
        raise SystemExit(128 + signal.Signals[run.stopped])
    return None


def failure_summary(failures: Path, id_key: str) -> Iterator[str]:
    """Yield a line for each reason of failures, the most frequent first, with a count and an example."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for _, row in read_jsonl(failures, {id_key: str, "reason": str}):
        counts[row["reason"]] += 1
        examples.setdefault(row["reason"], f"{row[id_key]}: {row.get('detail') or 'no detail'}")
    for reason, count in counts.most_common():
        yield f"{failures}: {count} {reason}, e.g. {examples[reason]}"


def preview(task: QuestionList, requests: Requests, options: ModelOptions, output: Path) -> None:
    """Print the first requests and an estimate of requests, tokens and cost; nothing is asked or written.

    Raises:
        ValueError: A bad input, or an output of other settings.
    """
    done = Keys(output, task.id_key, requests.settings_digest)
    failed = Keys(failures_path(output), task.id_key, requests.settings_digest, unique=False)
    mask = open_questions(done, failed, question_hashes(task), options)
    asked = min(int(mask.sum()), options.limit or len(mask))
    estimates: list[int] = []
    for question in islice(task.chosen(mask), min(asked, SAMPLED)):
        if len(estimates) < SHOWN:
            print(f"--- {question.id} (model {options.model}, answer format {options.answer_formats[0]})")
            for message in requests.prompt.messages(question.values):
                print(f"[{message['role']}]\n{message['content']}")
            for picture in question.pictures:
                print(f"[image] {picture}")
        estimates.append(requests.estimate(question))
    prompt_tokens = round(asked * sum(estimates) / max(1, len(estimates)))
    answer_tokens = asked * TOKENS_PER_FIELD * len(requests.prompt.answer)
    print(
        f"{asked} requests to ask ({len(done)} answered, {len(failed)} failed before)\n"
        f"about {prompt_tokens} prompt tokens (a quarter of the characters of {len(estimates)} requests, scaled up)\n"
        f"about {answer_tokens} answer tokens ({TOKENS_PER_FIELD} assumed for each text)"
    )
    if options.price_per_million_input or options.price_per_million_output:
        print(f"about {options.cost(prompt_tokens, answer_tokens):.2f} in money, at the prices given")
    if options.requests_per_minute:
        print(f"at least {asked / options.requests_per_minute:.0f} minutes at {options.requests_per_minute} a minute")
