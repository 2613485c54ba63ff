"""An optional part of `screen`: a language model judges a sample of the rows that passed, to estimate how many are wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from heapq import nsmallest
from itertools import compress
from pathlib import Path
from typing import Any

from data_prep.files import CAPTION_KEYS, DIFFERENCE_KEYS, Row, read_jsonl
from data_prep.line_index import LineIndex
from data_prep.llm.options import ModelOptions
from data_prep.llm.prompt import Prompt
from data_prep.llm.replies import MalformedReplyError
from data_prep.llm.step import ask, checked_prompt
from data_prep.llm.task import Question, Requests
from data_prep.manifest import Manifest
from data_prep.parts import Part, hash64
from data_prep.rules.report import OPINION_HEADING, quoted, without_opinion
from data_prep.steps.describe import SIDES, CaptionedPairs
from pcclip.atomic import atomic_text

TEXTS = {"text": "text_is_true", "reverse_text": "reverse_is_true"}  # each text and the field of its verdict
ANSWER = ("reason", *TEXTS.values())


class OpinionRequests(Requests):
    """Requests whose verdicts are `yes` or `no`."""

    def read(self, response: Any) -> dict[str, str]:
        """Return the fields of an answer.

        Raises:
            MalformedReplyError: They cannot be found, a verdict is neither, or they hold the endpoint's key.
            FailedAnswerError: The model was cut off, or refused.
        """
        values = super().read(response)
        for name in TEXTS.values():
            found = re.match(r"\W*(yes|no)\b", values[name], re.IGNORECASE)
            if found is None:
                raise MalformedReplyError(f"expected yes or no as {name}, found {values[name][:200]!r}")
            values[name] = found[1].lower()
        return values


class SampleTask:
    """A sample of screened rows. Ids hold a hash of texts and captions, so that other texts are other questions.

    Args:
        pairs: The screened rows with their captions.
        size: How many rows to draw: those whose ids have the smallest hashes, so that a larger sample holds a smaller one.
        prompt: The prompt.

    Raises:
        ValueError: An unknown image, or one without captions.
    """

    id_key = "opinion_id"
    sampled = True

    def __init__(self, pairs: CaptionedPairs, size: int, prompt: Prompt) -> None:
        self.prompt = prompt
        drawn = nsmallest(size, pairs, key=lambda numbered: hash64(f"opinion/{numbered[1]['pair_id']}"))
        questions = (self._question(pairs, number, row) for number, row in drawn)
        self._questions = {question.id: question for question in questions}

    def ids(self) -> Iterator[str]:
        """`<pair id>#<hash>`."""
        return iter(self._questions)

    def questions(self, wanted: Iterable[bool]) -> Iterator[Question]:
        """The rows that are wanted."""
        return compress(self._questions.values(), wanted)

    def _question(self, pairs: CaptionedPairs, number: int, row: Row) -> Question:
        values = {name: row[name] for name in TEXTS}
        for side, image in zip(SIDES, pairs.images(number, row), strict=True):
            if not image["captions"]:
                raise ValueError(f"{pairs.captions.path}: image {image['id']!r} has no captions to judge texts by")
            values[side] = "\n".join(caption.strip() for caption in image["captions"])
        name = f"{row['pair_id']}#{hash64(json.dumps(values)):016x}"
        return Question(name, {self.id_key: name, **{key: row[key] for key in DIFFERENCE_KEYS}}, values)


def opinion_prompt(options: ModelOptions) -> Prompt:
    """Check the options and load their prompt.

    Raises:
        FileNotFoundError: The prompt is missing.
        ValueError: A bad option or prompt.
    """
    return checked_prompt("screen.opinion", options, (*SIDES, *TEXTS), ANSWER)


def ask_opinion(
    options: ModelOptions, prompt: Prompt, size: int, screened: Path, captions: Path, report: Path, examples: int
) -> None:
    """Ask for what has no verdict yet, and write the share of wrong rows into the report.

    The answers lie next to `screened` in `<stem>.opinions.jsonl`.

    Args:
        options: Endpoint and limits.
        prompt: From `opinion_prompt`.
        size: Rows to draw.
        screened: The rows that passed.
        captions: The `captions.jsonl` of their images.
        report: The Markdown report. An earlier second opinion in it is replaced.
        examples: How many wrong rows to show.

    Raises:
        ValueError: An image without captions, answers of other settings, or an endpoint with which it is useless to go on.
        SystemExit: The run was stopped by a signal.
    """
    requests = OpinionRequests(options, prompt)
    manifest = Manifest("opinion", 1, {"screened": screened, "captions": captions}, {**requests.settings, "size": size})
    with LineIndex(captions, CAPTION_KEYS, "id", unique=True) as index:
        task = SampleTask(
            CaptionedPairs(screened, index, Part.parse(options.part, "screen.opinion.part")), size, prompt
        )
    answers = screened.with_name(f"{screened.stem}.opinions.jsonl")
    ask(manifest, task, requests, options, answers)
    if options.dry_run:
        return
    drawn = set(task.ids())
    rows = (row for _, row in read_jsonl(answers, {task.id_key: str, **dict.fromkeys(ANSWER, str)}))
    judged = [row for row in rows if row[task.id_key] in drawn]
    if judged:
        before = without_opinion(report)
        with atomic_text(report) as stream:
            stream.write(before + OPINION_HEADING + opinion_markdown(judged, len(drawn), options.model, examples))


def opinion_markdown(judged: Sequence[Row], drawn: int, model: str, examples: int) -> str:
    """Return shares of wrong texts with 95 % Wilson intervals, and examples, as Markdown.

    Args:
        judged: Rows with verdicts, at least one.
        drawn: Rows in the sample.
        model: Who judged.
        examples: How many wrong rows to show.
    """
    wrong = [row for row in judged if "no" in (row[verdict] for verdict in TEXTS.values())]
    counts = {name: sum(row[verdict] == "no" for row in wrong) for name, verdict in TEXTS.items()}
    lines = [
        "",
        f"`{model}` judged {len(judged)} of {drawn} rows drawn from those that passed.",
        "",
        "| judged wrong | rows | share | 95 % interval |",
        "|---|---|---|---|",
    ]
    for name, count in {**counts, "either": len(wrong)}.items():
        low, high = wilson(count, len(judged))
        lines.append(f"| {name} | {count} | {count / len(judged):.2%} | {low:.2%} to {high:.2%} |")
    lines.append("")
    for row in wrong[:examples]:
        blamed = " and ".join(name for name, verdict in TEXTS.items() if row[verdict] == "no")
        texts = f"text: {quoted(row['text'])}  \n  reverse: {quoted(row['reverse_text'])}"
        lines.append(f"- `{row['pair_id']}`: {blamed}: {quoted(row['reason'])}  \n  {texts}")
    return "\n".join(lines).rstrip() + "\n"


def wilson(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share."""
    z = 1.959964
    centre, scale = (count + z * z / 2) / total, 1 + z * z / total
    margin = z * math.sqrt(count * (total - count) / total + z * z / 4) / total
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)
