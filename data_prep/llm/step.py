"""What the steps that ask a language model have in common."""

from __future__ import annotations

import signal
from collections.abc import Collection
from pathlib import Path

from data_prep.llm.batch import answer_in_batches
from data_prep.llm.options import ModelOptions
from data_prep.llm.preview import preview
from data_prep.llm.prompt import Prompt, load_prompt
from data_prep.llm.runner import Totals, answer_all
from data_prep.llm.task import Requests, Task

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
    step: str, task: Task, requests: Requests, options: ModelOptions, output: Path, *, batch: bool = False
) -> Totals | None:
    """Ask a task's questions and say how it went.

    Args:
        step: The step's name.
        task: The questions.
        requests: Makes their requests.
        options: Endpoint and limits.
        output: The JSON Lines of the answers.
        batch: By batch files rather than one by one.

    Returns:
        The totals if now every question has its answer or its recorded failure, else None.

    Raises:
        ValueError: A bad input or journal, or an endpoint with which it is useless to go on.
        SystemExit: The run was stopped by a signal.
    """
    if options.dry_run:
        preview(task, requests, options, output)
        return None
    totals = (
        answer_in_batches(task, requests, options, output)
        if batch
        else answer_all(task, requests, options, output, step)
    )
    used = f"{totals.prompt_tokens} + {totals.completion_tokens} tokens, cost {totals.cost(options):.2f}"
    print(f"{output}: {totals.answered} of {totals.questions} answered, {totals.failed} failed, {used}")
    if not totals.stopped:
        return totals
    print(f"{totals.missing} are missing: {HOW_TO_GO_ON[totals.stopped]}")
    if totals.stopped.startswith("SIG"):
        raise SystemExit(128 + signal.Signals[totals.stopped])
    return None
