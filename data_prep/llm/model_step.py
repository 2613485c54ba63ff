"""Base class of the steps that write a language model's answers."""

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
from data_prep.llm.journal import Journal, Keys, failures_path
from data_prep.llm.options import ModelOptions
from data_prep.llm.questions import QuestionList, Requests
from data_prep.llm.run import Run, check_questions, open_questions, question_hashes
from data_prep.manifest import Manifest
from data_prep.step import Made, OutputStep

HOW_TO_GO_ON = {
    "limit": "stopped at `limit`; run again for the rest",
    "max_cost": "stopped before exceeding `max_cost`; raise it and run again for the rest",
    "batch files": "run again when the output files are there",
    "SIGINT": "interrupted; run again to continue",
    "SIGTERM": "interrupted; run again to continue",
}
SHOWN = 3  # requests printed by a dry run
SAMPLED = 200  # requests from which the tokens of all are estimated
TOKENS_PER_FIELD = 50  # of an answer: two sentences


@dataclass(kw_only=True)
class ModelStep(ModelOptions, OutputStep):
    """A step that asks a language model. Answers are kept: a later run asks only the open questions."""

    backend: str
    """`openai` asks a language model at an endpoint, `batch` by batch files. Other backends ask no model."""

    @property
    def asks_model(self) -> bool:
        """Whether the backend asks a language model."""
        return self.backend in ("openai", "batch")

    @property
    def answers(self) -> Path:
        """JSON Lines file of the answers."""
        return Path(self.output)

    @property
    @abstractmethod
    def requests(self) -> Requests:
        """Maker of the requests. The first access can raise the errors of `Requests`."""

    def check_options(self) -> None:
        if self.asks_model:
            _ = self.requests

    def settings(self) -> dict[str, Any]:
        """Return the options that affect the output: those of the requests, or `seed` if no model is asked."""
        of_endpoint = {option.name for option in fields(ModelOptions)} - {"part"}
        settings = {name: value for name, value in super().settings().items() if name not in of_endpoint}
        if self.asks_model:
            settings.pop("seed", None)
            settings |= {"backend": f"openai:{self.model}", **self.requests.settings}
        return settings

    def lock(self) -> AbstractContextManager[None]:
        """Return the lock of the output. A dry run needs none."""
        return nullcontext() if self.dry_run else super().lock()

    def is_current(self, manifest: Manifest) -> bool:
        resumes = self.asks_model and self.answers == Path(self.output)
        again = self.asks_model and (self.dry_run or (self.retry_failed and failures_path(self.answers).exists()))
        return manifest.matches(Path(self.output), resumes=resumes) and not again

    def ask(self, task: QuestionList) -> Made | None:
        """Ask the questions of a task and print a summary.

        Returns:
            The counts if every question has an answer or a recorded failure, else None.

        Raises:
            ValueError: An invalid input or journal, an error that affects all questions, no answer at all or in this run,
                or `stop_after_failures` failures in a row.
            SystemExit: A signal stopped the run.
        """
        if self.dry_run:
            self._preview(task)
            return None
        hashes = question_hashes(task)
        with Journal(self.answers, task.id_key, self.requests.settings_digest) as journal:
            check_questions(task, self.requests, journal, hashes)
            run = Run(task, self.requests, self, journal, hashes)
            if self.backend == "batch":
                from data_prep.llm.batch_run import BatchRun  # here: openai is slow to import

                BatchRun(run).advance()
            else:
                from data_prep.llm.live import LiveRun  # as above

                asyncio.run(LiveRun(run, self.name).ask())
        used = f"{run.prompt_tokens} + {run.completion_tokens} tokens, cost {run.cost:.2f}"
        print(f"{self.answers}: {run.answered} of {run.questions} answered, {run.failed} failed, {used}")
        failures = failures_path(self.answers)
        if run.failed:
            print("\n".join(failure_summary(failures, task.id_key)))
        nothing = (run.failed and not run.answered) or (run.failed_now and not run.answered_now)
        if run.stopped == "failures" or nothing:
            what = "no question was answered" if nothing else "too many questions failed in a row"
            raise ValueError(
                f"{self.answers}: {what}; see {failures}. Fix the cause and run again with `retry_failed: true`"
            )
        if not run.stopped:
            return Made(run.counts())
        print(f"{run.missing} are missing: {HOW_TO_GO_ON[run.stopped]}")
        if run.stopped.startswith("SIG"):
            raise SystemExit(128 + signal.Signals[run.stopped])
        return None

    def _preview(self, task: QuestionList) -> None:
        """Print the first requests and estimates of tokens, cost and time. Ask and write nothing."""
        requests, settings = self.requests, self.requests.settings_digest
        done = Keys(self.answers, task.id_key, settings)
        failed = Keys(failures_path(self.answers), task.id_key, settings, unique=False)
        mask = open_questions(done, failed, question_hashes(task), self)
        asked = min(int(mask.sum()), self.limit or len(mask))
        estimates: list[int] = []
        for question in islice(task.chosen(mask), min(asked, SAMPLED)):
            if len(estimates) < SHOWN:
                print(f"--- {question.id} (model {self.model}, answer format {self.answer_formats[0]})")
                for message in requests.prompt.messages(question.values):
                    print(f"[{message['role']}]\n{message['content']}")
                for picture in question.pictures:
                    print(f"[image] {picture}")
            estimates.append(requests.estimate(question))
        prompt_tokens = round(asked * sum(estimates) / max(1, len(estimates)))
        answer_tokens = asked * TOKENS_PER_FIELD * len(requests.prompt.answer)
        print(
            f"{asked} requests to ask ({len(done)} answered, {len(failed)} failed so far)\n"
            f"about {prompt_tokens} prompt tokens (a quarter of the characters of {len(estimates)} requests, scaled up)\n"
            f"about {answer_tokens} answer tokens ({TOKENS_PER_FIELD} assumed for each text)"
        )
        if self.price_per_million_input or self.price_per_million_output:
            print(f"cost about {self.cost(prompt_tokens, answer_tokens):.2f} at the given prices")


def failure_summary(failures: Path, id_key: str) -> Iterator[str]:
    """Yield a line for each kind of failure, the most frequent first, with its count and an example."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for _, row in read_jsonl(failures, {id_key: str, "reason": str}):
        counts[row["reason"]] += 1
        examples.setdefault(row["reason"], f"{row[id_key]}: {row.get('detail') or 'no detail'}")
    for reason, count in counts.most_common():
        yield f"{failures}: {count} {reason}, e.g. {examples[reason]}"
