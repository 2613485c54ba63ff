"""What a run would ask and about cost, without asking."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from data_prep.llm.journal import Keys, failures_path
from data_prep.llm.options import ANSWER_FORMATS, ModelOptions
from data_prep.llm.prompt import Message
from data_prep.llm.runner import question_hashes, wanted
from data_prep.llm.task import Question, Requests, Task, estimate_tokens

SHOWN = 3
SAMPLED = 200
TOKENS_PER_FIELD = 50  # of an answer: two sentences


def preview(task: Task, requests: Requests, options: ModelOptions, output: Path) -> None:
    """Print the first requests and an estimate of requests, tokens and cost; nothing is asked or written.

    Raises:
        ValueError: A bad input, or an output of other settings.
    """
    done = Keys(output, task.id_key, requests.settings_digest)
    failed = Keys(failures_path(output), task.id_key, requests.settings_digest, unique=False)
    asked_mask = wanted(done, failed, question_hashes(task), options.retry_failed)
    missing = int(asked_mask.sum())
    asked = missing if options.limit is None else min(missing, options.limit)
    sampled: list[int] = []
    for question in islice(task.questions(asked_mask), min(asked, SAMPLED)):
        messages = requests.prompt.messages(question.values, ["" for _ in question.pictures])
        if len(sampled) < SHOWN:
            _show(question, messages, requests, options)
        sampled.append(estimate_tokens(messages))
    prompt_tokens = round(asked * sum(sampled) / max(1, len(sampled)))
    answer_tokens = asked * TOKENS_PER_FIELD * len(requests.prompt.answer)
    print(
        f"{asked} requests to ask ({len(done)} answered, {len(failed)} failed before)\n"
        f"about {prompt_tokens} prompt tokens (a quarter of the characters of {len(sampled)} requests, scaled up)\n"
        f"about {answer_tokens} answer tokens ({TOKENS_PER_FIELD} assumed for each text)"
    )
    if options.price_per_million_input or options.price_per_million_output:
        print(f"about {options.cost(prompt_tokens, answer_tokens):.2f} in money, at the prices given")
    if options.requests_per_minute:
        print(f"at least {asked / options.requests_per_minute:.0f} minutes at {options.requests_per_minute} a minute")


def _show(question: Question, messages: list[Message], requests: Requests, options: ModelOptions) -> None:
    """Print one filled-in request."""
    answer_format = ANSWER_FORMATS[1] if options.answer_format == "auto" else options.answer_format
    print(f"--- {question.id} (model {requests.model}, answer format {answer_format})")
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            content = content[-1]["text"]
        print(f"[{message['role']}]\n{content}")
    for picture in question.pictures:
        print(f"[image] {picture}")
