"""What the steps that ask a language model have in common."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from data_prep.files import read_jsonl
from data_prep.llm.batch import answer_in_batches
from data_prep.llm.journal import failures_path
from data_prep.llm.options import ModelOptions
from data_prep.llm.preview import preview
from data_prep.llm.prompt import Prompt, load_prompt
from data_prep.llm.runner import Totals, answer_all, checked_path
from data_prep.llm.task import Requests, Task
from data_prep.manifest import Manifest

HOW_TO_GO_ON = {
    "limit": "as many as `limit` allows were asked; run again for the rest",
    "max_cost": "stopped before `max_cost` is passed; raise it and run again for the rest",
    "batch files": "run again when the output files are there",
    "SIGINT": "interrupted; run again to go on",
    "SIGTERM": "interrupted; run again to go on",
}


def checked_prompt(step: str, options: ModelOptions, known: Collection[str], answer: Collection[str]) -> Prompt:
    """Check the options and load their prompt; see `load_prompt`.

    Raises:
        FileNotFoundError: The prompt is missing.
        ValueError: A bad option or prompt.
    """
    options.check(step)
    if not options.prompt:
        raise ValueError(f"{step}.prompt is not set; name a YAML file, or a shipped prompt such as `difference`")
    return load_prompt(options.prompt, known, answer)


def ask(
    manifest: Manifest, task: Task, requests: Requests, options: ModelOptions, output: Path, *, batch: bool = False
) -> Totals | None:
    """Ask a task's questions and say how it went.

    Args:
        manifest: Of the step.
        task: The questions.
        requests: Makes their requests.
        options: Endpoint and limits.
        output: The JSON Lines of the answers.
        batch: By batch files rather than one by one.

    Returns:
        The totals if now every question has its answer or its recorded failure, else None.

    Raises:
        ValueError: A bad input or journal, an endpoint with which it is useless to go on, no answer in this run or at
            all, or more failures in a row than `stop_after_failures`.
        SystemExit: The run was stopped by a signal.
    """
    if options.dry_run:
        preview(task, requests, options, output)
        return None
    totals = (answer_in_batches if batch else answer_all)(task, requests, options, output, manifest)
    used = f"{totals.prompt_tokens} + {totals.completion_tokens} tokens, cost {totals.cost(options):.2f}"
    print(f"{output}: {totals.answered} of {totals.questions} answered, {totals.failed} failed, {used}")
    failures = failures_path(output)
    if totals.failed:
        print("\n".join(failure_summary(failures, task.id_key)))
    nothing = (totals.failed and not totals.answered) or (totals.failed_now and not totals.answered_now)
    if totals.stopped == "failures" or nothing:
        what = "no question was answered" if nothing else "too many questions failed in a row"
        raise ValueError(f"{output}: {what}; see {failures}. Fix the cause and run again with retry_failed=true")
    if not totals.stopped:
        checked_path(output).unlink()
        return totals
    print(f"{totals.missing} are missing: {HOW_TO_GO_ON[totals.stopped]}")
    if totals.stopped.startswith("SIG"):
        raise SystemExit(128 + signal.Signals[totals.stopped])
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
