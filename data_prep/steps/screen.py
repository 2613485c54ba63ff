"""Step `screen`: remove additions such as quotes from difference texts, and reject bad texts."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import ClassVar, NamedTuple

from tqdm import tqdm

from data_prep.files import CAPTION_KEYS, DIFFERENCE_KEYS, Row, manifest_path, parse_row
from data_prep.line_index import LineIndex
from data_prep.manifest import Manifest
from data_prep.parts import hash64
from data_prep.progress import progress
from data_prep.rules.judge import Judge, Judgement, RuleOptions
from data_prep.rules.screening_report import ScreeningReport, dumps
from data_prep.step import INPUT, UNRECORDED, Made, OutputStep, Workers
from data_prep.workers import in_order
from pcclip.atomic import atomic_text

Outcome = tuple[Row, Judgement]
# no pattern of `differences` means them
FILES_NEXT_TO_OUTPUTS = (".rejected.jsonl", ".opinions.jsonl", ".failures.jsonl")
CHUNK = 1 << 20  # bytes of rows that are sent to a process at once


@dataclass(kw_only=True)
class Screen(RuleOptions, Workers, OutputStep):
    """Remove additions such as quotes from difference texts, and reject bad texts."""

    version: ClassVar[int] = 2

    differences: str = field(metadata=UNRECORDED)
    """The `differences.jsonl` to screen, or a pattern such as `data/screened-*.jsonl` for several files. After
    screening in parts, screen all outputs again. This finds texts that occur too often in all parts together, and
    changes nothing else."""
    output: str = field(metadata=UNRECORDED)
    """The `screened.jsonl` to write: the rows that passed, with the cut texts. Next to it, `screened.rejected.jsonl`
    has the other rows with a reason. `screened.report.md` has counts and examples."""
    captions: str | None = field(default=None, metadata=INPUT)
    """The `captions.jsonl` of the images. Null: texts are not compared with captions."""
    fit_model: str | None = None
    """Reject a text if its reverse text is at least as close to the image difference, by this model: an open_clip name,
    `local-dir:FOLDER` or `hf-hub:NAME`. Use a finetuned model, since other models hardly know directions. Null: do not
    use images."""
    fit_pretrained: str | None = None
    """Weights of `fit_model`, if the name does not include them."""
    part: str | None = None
    """Screen only this part of the groups: `1/4` to `4/4`. Give each part its own `output`. Null: all."""

    def check_options(self) -> None:
        self.check()
        if self.fit_model is not None and self.captions is None:
            raise ValueError("screen.fit_model needs screen.captions, which has the paths of the images; set it")

    @property
    def rejected_file(self) -> Path:
        """File of the rejected rows, unchanged, with `reason` and `detail`."""
        return Path(self.output).with_suffix(".rejected.jsonl")

    @property
    def report_file(self) -> Path:
        """The Markdown report, next to the output."""
        return Path(self.output).with_suffix(".report.md")

    def sources(self) -> list[Path]:
        """Return the files of differences.

        Raises:
            FileNotFoundError: There is none.
        """
        pattern = Path(self.differences)
        found = [pattern] if pattern.is_file() else sorted(pattern.parent.glob(pattern.name))
        files = [file for file in found if file == pattern or not file.name.endswith(FILES_NEXT_TO_OUTPUTS)]
        if not files:
            raise FileNotFoundError(f"{pattern}: file not found; check the path, or run the step that writes it first")
        return files

    def input_files(self) -> dict[str, Path]:
        first, *others = self.sources()
        numbered = {f"differences.{place}": file for place, file in enumerate(others, start=1)}
        return {"differences": first, **numbered, **super().input_files()}

    def make(self, manifest: Manifest) -> Made:
        """Write the output, the rejected rows and the report, in the order of the input.

        Raises:
            ValueError: A bad row, or an image that `captions` does not have.
            ChildProcessError: A process died.
        """
        output, report = Path(self.output), ScreeningReport()
        outcomes = without_repeats(judged(self), self)
        if self.fit_model is not None and "misfit" not in self.skip_rules:
            from data_prep.steps.tower import without_misfits  # here: torch is slow to import

            outcomes = without_misfits(outcomes, Path(str(self.captions)), self.fit_model, self.fit_pretrained)
        with atomic_text(output) as passed, atomic_text(self.rejected_file) as rejected:
            for row, judgement in outcomes:
                report.add(row, judgement)
                if judgement.reason is None:
                    text, reverse_text = judgement.texts
                    passed.write(dumps({**row, "text": text, "reverse_text": reverse_text}) + "\n")
                else:
                    rejected.write(dumps({**row, "reason": judgement.reason, "detail": judgement.detail}) + "\n")
            manifest_path(output).unlink(missing_ok=True)
        with atomic_text(self.report_file) as stream:
            stream.write(report.markdown())
        message = f"{report.passed} of {report.rows} rows passed; see {self.report_file}"
        return Made(report.counts(), files=(self.rejected_file, self.report_file), message=message)


class Chunk(NamedTuple):
    """Some lines of a file, and the number of the first, from 1."""

    file: Path
    number: int
    lines: list[bytes]


def judged(options: Screen) -> Iterator[Outcome]:
    """Yield the rows of the part and what the rules say of each, in the order of the files.

    Raises:
        ValueError: A bad row, or an image that `captions` does not have.
        ChildProcessError: A process died.
    """
    sources = options.sources()
    size = sum(source.stat().st_size for source in sources)
    workers = min(options.workers, -(-size // CHUNK))
    bar: tqdm[None] = progress((), desc="screen", unit="B", total=size)
    judge = partial(_judge_chunk, Run(secrets.token_hex(), options))
    with bar, _open:
        for length, outcomes in in_order(judge, _chunks(sources), workers, "screen.workers"):
            bar.update(length)
            yield from outcomes


def _chunks(sources: Sequence[Path]) -> Iterator[Chunk]:
    for source in sources:
        number = 1
        with source.open("rb") as stream:
            while lines := stream.readlines(CHUNK):
                yield Chunk(source, number, lines)
                number += len(lines)


@dataclass(frozen=True)
class Run:
    """A run of the step. Worker processes recognise it by its unique name."""

    name: str
    options: Screen = field(compare=False)


_open = ExitStack()  # the captions of the last run of this process


@lru_cache(maxsize=1)  # joblib's processes serve several runs
def _judge_of(run: Run) -> Judge:
    _open.close()
    captions = run.options.captions
    index = LineIndex([Path(captions)], CAPTION_KEYS, "id") if captions else None
    return Judge(run.options, None if index is None else _open.enter_context(index))


def _judge_chunk(run: Run, chunk: Chunk) -> tuple[int, list[Outcome]]:
    """Return the number of bytes of a chunk, and its outcomes."""
    judge, part = _judge_of(run), run.options.own_part
    outcomes: list[Outcome] = []
    for number, line in enumerate(chunk.lines, start=chunk.number):
        if line.strip():
            where = f"{chunk.file}, line {number}"
            row = parse_row(line, where, DIFFERENCE_KEYS)
            if part.holds(row["group"]):
                outcomes.append((row, judge.judge(row, where)))
    return sum(map(len, chunk.lines)), outcomes


def without_repeats(outcomes: Iterator[Outcome], options: RuleOptions) -> Iterator[Outcome]:
    """Yield the outcomes. Reject a row that passed the rules if an earlier one with its pair id did, or if `max_repeats` others
    have one of its texts.
    """
    pairs: set[int] = set()
    texts: Counter[int] = Counter()
    for row, judgement in outcomes:
        if judgement.reason is None:
            pair, alike = hash64(row["pair_id"]), set(judgement.alike)
            if pair in pairs and "repeated_pair" not in options.skip_rules:
                judgement.reason, judgement.detail = "repeated_pair", "the pair's id occurred before"
            elif "near_duplicate" not in options.skip_rules and any(texts[key] >= options.max_repeats for key in alike):
                judgement.reason = "near_duplicate"
                judgement.detail = f"a text that {options.max_repeats} other rows have"
            else:
                texts.update(alike)
            pairs.add(pair)
        yield row, judgement
