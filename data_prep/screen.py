"""Step `screen`: cut what does not belong to difference texts, and reject those that would teach something wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import MISSING

from data_prep.files import CAPTION_KEYS, DIFFERENCE_KEYS, Row, manifest_path, read_jsonl
from data_prep.line_index import LineIndex
from data_prep.lock import locks_output
from data_prep.manifest import Manifest
from data_prep.progress import progress
from data_prep.rules.census import Census
from data_prep.rules.judge import Judge, RuleOptions
from data_prep.rules.report import Report, line_of
from pcclip.atomic import atomic_text

STEP_VERSION = 1


@dataclass
class Options(RuleOptions):
    """Options of the step, on top of those of the rules.

    Attributes:
        differences: The `differences.jsonl` to screen.
        output: The `screened.jsonl` to write: the rows that passed, less what was cut off their texts.
        captions: The `captions.jsonl` of the images, to tell copied captions. Null: copies are not looked for.
        rejected: The `rejected.jsonl` to write: the other rows as they were, with `reason` and `detail`. Null: beside
            `output`.
        report: The Markdown report to write. Null: `screen_report.md` beside `output`.
        samples: Examples of each reason and each cut in the report.
    """

    differences: str = MISSING
    output: str = MISSING
    captions: str | None = None
    rejected: str | None = None
    report: str | None = None
    samples: int = 5


@locks_output
def run(options: Options) -> None:
    """Read `differences`, write `output`, `rejected` and `report`, in the order of the input.

    Raises:
        FileNotFoundError: An input is missing.
        ValueError: A bad row, an option out of range, or an image that `captions` does not have.
    """
    options.check()
    if options.samples < 0:
        raise ValueError(f"screen.samples must be at least 0, found {options.samples}")
    differences, output = Path(options.differences), Path(options.output)
    rejected = Path(options.rejected) if options.rejected else output.with_name("rejected.jsonl")
    report_file = Path(options.report) if options.report else output.with_name("screen_report.md")
    captions = Path(options.captions) if options.captions else None
    for file, required in ((differences, DIFFERENCE_KEYS), (captions, CAPTION_KEYS)):
        if file is not None:
            next(read_jsonl(file, required), None)  # says what is wrong where the file is missing
    inputs = {"differences": differences} | ({"captions": captions} if captions else {})
    paths = ("differences", "output", "captions", "rejected", "report")
    settings = {name: value for name, value in asdict(options).items() if name not in paths}
    manifest = Manifest("screen", STEP_VERSION, inputs, settings)
    if manifest.matches(output) and rejected.is_file() and report_file.is_file():
        print(f"{output} is up to date")
        return
    report = Report(options.samples)
    with ExitStack() as stack:
        index = stack.enter_context(LineIndex(captions, CAPTION_KEYS, "id", unique=True)) if captions else None
        census = Census((row for _, row in _rows(differences, "count texts", None)), options.max_repeats)
        judge = Judge(options, census, index)
        passed_stream = stack.enter_context(atomic_text(output))
        rejected_stream = stack.enter_context(atomic_text(rejected))
        for number, row in _rows(differences, "screen", census.rows):
            judgement = judge.judge(row, f"{differences}, line {number}")
            report.add(row, judgement)
            if judgement.reason is None:
                text, reverse_text = judgement.texts
                passed_stream.write(line_of({**row, "text": text, "reverse_text": reverse_text}))
            else:
                rejected_stream.write(line_of({**row, "reason": judgement.reason, "detail": judgement.detail}))
        manifest_path(output).unlink(missing_ok=True)
    with atomic_text(report_file) as stream:
        stream.write(report.markdown())
    manifest.write(output, report.counts())
    print(f"{output}: {report.passed} of {report.rows} rows passed; see {report_file}")


def _rows(differences: Path, desc: str, total: int | None) -> Iterator[tuple[int, Row]]:
    yield from progress(read_jsonl(differences, DIFFERENCE_KEYS), desc=desc, unit="row", total=total)
