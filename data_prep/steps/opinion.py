"""Step `opinion`: a language model judges a sample of difference texts, to estimate the share of wrong ones."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from heapq import nsmallest
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, PositiveInt
from scipy.stats import binomtest

from data_prep.files import CAPTION_KEYS, DIFFERENCE_KEYS, Row, read_jsonl
from data_prep.line_index import LineIndex
from data_prep.llm.model_step import ModelStep
from data_prep.llm.questions import Question, QuestionList, Requests
from data_prep.llm.replies import Text
from data_prep.manifest import Manifest
from data_prep.parts import hash64
from data_prep.rules.screening_report import EXAMPLES, quoted
from data_prep.step import INPUT, Made
from data_prep.steps.describe import SIDES, CaptionedPairs
from pcclip.atomic import atomic_text

TEXTS = {"text": "text_is_true", "reverse_text": "reverse_is_true"}  # text and field of its verdict


def _verdict(text: object) -> object:
    found = re.match(r"\W*(yes|no)\b", text, re.IGNORECASE) if isinstance(text, str) else None
    return found[1].lower() if found else text


Verdict = Annotated[Literal["yes", "no"], BeforeValidator(_verdict)]
ANSWER = {"reason": Text, **dict.fromkeys(TEXTS.values(), Verdict)}


@dataclass(kw_only=True)
class Opinion(ModelStep):
    """Let a language model judge whether a sample of difference texts agrees with the captions of the images.

    The output is a Markdown report with the shares of wrong texts, 95 % intervals and examples. The answers are next to it
    in `<stem>.jsonl`.
    """

    version: ClassVar[int] = 1

    differences: str = field(metadata=INPUT)
    """Texts to judge, such as the output of the step `screen`."""
    captions: str = field(metadata=INPUT)
    """Captions of their images (`captions.jsonl`)."""
    backend: Literal["openai", "batch"] = "openai"
    """`openai`: a language model at an endpoint. `batch`: by batch files."""
    sample: PositiveInt = 200
    """Number of rows to judge. Rows are chosen by a hash, so that a larger sample contains a smaller one."""
    prompt: str = "second_opinion"
    temperature: float | None = 0.0

    @property
    def answers(self) -> Path:
        """`<stem>.jsonl`, next to the output."""
        return Path(self.output).with_suffix(".jsonl")

    def check_options(self) -> None:
        if self.answers.absolute() in (Path(self.output).absolute(), Path(self.differences).absolute()):
            raise ValueError(
                f"{self.output}: `output` must be a Markdown file, and its stem must not be that of `differences`"
            )
        super().check_options()

    @cached_property
    def requests(self) -> Requests:
        return Requests("opinion", self, (*SIDES, *TEXTS), ANSWER)

    def make(self, manifest: Manifest) -> Made | None:
        """Ask for missing verdicts and write the report.

        Raises:
            ValueError: A row is invalid, an image is unknown or has no captions, earlier answers have other settings, or
                an error affects all questions.
        """
        with LineIndex([Path(self.captions)], CAPTION_KEYS, "id") as index:
            pairs = CaptionedPairs(Path(self.differences), index, self.own_part, DIFFERENCE_KEYS)
            questions = {question.id: question for question in self._drawn(pairs)}
        named = [(name, partial(questions.__getitem__, name)) for name in questions]
        task = QuestionList("opinion_id", lambda: iter(named), sampled=True)
        made = self.ask(task)
        if self.dry_run:
            return None
        rows = (row for _, row in read_jsonl(self.answers, dict.fromkeys((task.id_key, *ANSWER), str)))
        judged = [row for row in rows if row[task.id_key] in questions]
        if judged:
            with atomic_text(Path(self.output)) as stream:
                stream.write(self._report(judged, len(questions)))
        return made

    def _drawn(self, pairs: CaptionedPairs) -> Iterator[Question]:
        """Yield the questions. Their ids have a hash of texts and captions, so that changed texts are asked again."""
        for number, row in nsmallest(
            self.sample, pairs, key=lambda numbered: hash64(f"opinion/{numbered[1]['pair_id']}")
        ):
            images = zip(SIDES, pairs.images(number, row), strict=True)
            values = {name: row[name] for name in TEXTS} | {side: pairs.captions_of(image) for side, image in images}
            name = f"{row['pair_id']}#{hash64(json.dumps(values)):016x}"
            yield Question(name, {"opinion_id": name, **{key: row[key] for key in DIFFERENCE_KEYS}}, values)

    def _report(self, judged: Sequence[Row], drawn: int) -> str:
        """Return shares of wrong texts with 95 % Wilson intervals, and examples, as Markdown."""
        wrong = [row for row in judged if "no" in (row[verdict] for verdict in TEXTS.values())]
        counts = {name: sum(row[verdict] == "no" for row in wrong) for name, verdict in TEXTS.items()}
        lines = [
            "# Second opinion",
            "",
            f"`{self.model}` judged {len(judged)} of {drawn} rows drawn.",
            "",
            "| judged wrong | rows | share | 95 % interval |",
            "|---|---|---|---|",
        ]
        for name, count in {**counts, "either": len(wrong)}.items():
            low, high = binomtest(count, len(judged)).proportion_ci(method="wilson")
            lines.append(f"| {name} | {count} | {count / len(judged):.2%} | {low:.2%} to {high:.2%} |")
        lines.append("")
        for row in wrong[:EXAMPLES]:
            blamed = " and ".join(name for name, verdict in TEXTS.items() if row[verdict] == "no")
            texts = f"text: {quoted(row['text'])}  \n  reverse: {quoted(row['reverse_text'])}"
            lines.append(f"- `{row['pair_id']}`: {blamed}: {quoted(row['reason'])}  \n  {texts}")
        return "\n".join(lines).rstrip() + "\n"
