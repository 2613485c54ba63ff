"""An optional part of `screen`: a language model judges a sample of the rows that passed, to estimate how many are wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from heapq import nsmallest
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator
from scipy.stats import binomtest

from data_prep.files import CAPTION_KEYS, DIFFERENCE_KEYS, Row, read_jsonl
from data_prep.line_index import LineIndex
from data_prep.llm.model_step import ask
from data_prep.llm.options import ModelOptions
from data_prep.llm.questions import Question, QuestionList, Requests
from data_prep.llm.replies import Text
from data_prep.manifest import Manifest
from data_prep.parts import Part, hash64
from data_prep.rules.screening_report import OPINION_HEADING, quoted, without_opinion
from data_prep.steps.describe import SIDES, CaptionedPairs
from pcclip.atomic import atomic_text

TEXTS = {"text": "text_is_true", "reverse_text": "reverse_is_true"}  # each text and the field of its verdict


def _verdict(text: object) -> object:
    found = re.match(r"\W*(yes|no)\b", text, re.IGNORECASE) if isinstance(text, str) else None
    return found[1].lower() if found else text


Verdict = Annotated[Literal["yes", "no"], BeforeValidator(_verdict)]
ANSWER = {"reason": Text, **dict.fromkeys(TEXTS.values(), Verdict)}


def opinion_requests(options: ModelOptions) -> Requests:
    """Check the options and return what makes the requests.

    Raises:
        FileNotFoundError: The prompt is missing.
        ValueError: A bad option or prompt.
    """
    return Requests("screen.opinion", options, (*SIDES, *TEXTS), ANSWER)


def sample_task(pairs: CaptionedPairs, size: int) -> QuestionList:
    """Return a sample of screened rows. Ids hold a hash of texts and captions, so that other texts are other questions.

    Args:
        pairs: The screened rows with their captions.
        size: How many rows to draw: those whose ids have the smallest hashes, so that a larger sample holds a smaller one.

    Raises:
        ValueError: An unknown image, or one without captions.
    """

    def question(number: int, row: Row) -> Question:
        values = {name: row[name] for name in TEXTS}
        for side, image in zip(SIDES, pairs.images(number, row), strict=True):
            values[side] = pairs.captions_of(image)
        name = f"{row['pair_id']}#{hash64(json.dumps(values)):016x}"
        return Question(name, {"opinion_id": name, **{key: row[key] for key in DIFFERENCE_KEYS}}, values)

    drawn = nsmallest(size, pairs, key=lambda numbered: hash64(f"opinion/{numbered[1]['pair_id']}"))
    questions = {made.id: made for made in (question(number, row) for number, row in drawn)}
    return QuestionList(
        "opinion_id", lambda: ((name, partial(questions.__getitem__, name)) for name in questions), sampled=True
    )


def ask_opinion(
    options: ModelOptions, requests: Requests, size: int, screened: Path, captions: Path, report: Path, examples: int
) -> None:
    """Ask for what has no verdict yet, and write the share of wrong rows into the report.

    The answers are next to `screened` in `<stem>.opinions.jsonl`.

    Args:
        options: Endpoint and limits.
        requests: From `opinion_requests`.
        size: Rows to draw.
        screened: The rows that passed.
        captions: The `captions.jsonl` of their images.
        report: The Markdown report. An earlier second opinion in it is replaced.
        examples: How many wrong rows to show.

    Raises:
        ValueError: An image without captions, answers of other settings, or an endpoint with which it is useless to go on.
        SystemExit: The run was stopped by a signal.
    """
    manifest = Manifest("opinion", 1, {"screened": screened, "captions": captions}, {**requests.settings, "size": size})
    with LineIndex(captions, CAPTION_KEYS, "id", unique=True) as index:
        part = Part.parse(options.part, "screen.opinion.part")
        task = sample_task(CaptionedPairs(screened, index, part), size)
    answers = screened.with_name(f"{screened.stem}.opinions.jsonl")
    ask(task, requests, options, answers, manifest)
    if options.dry_run:
        return
    drawn = set(task.ids())
    rows = (row for _, row in read_jsonl(answers, dict.fromkeys((task.id_key, *ANSWER), str)))
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
        low, high = binomtest(count, len(judged)).proportion_ci(method="wilson")
        lines.append(f"| {name} | {count} | {count / len(judged):.2%} | {low:.2%} to {high:.2%} |")
    lines.append("")
    for row in wrong[:examples]:
        blamed = " and ".join(name for name, verdict in TEXTS.items() if row[verdict] == "no")
        texts = f"text: {quoted(row['text'])}  \n  reverse: {quoted(row['reverse_text'])}"
        lines.append(f"- `{row['pair_id']}`: {blamed}: {quoted(row['reason'])}  \n  {texts}")
    return "\n".join(lines).rstrip() + "\n"
