"""Step `screen`: remove additions such as quotes from difference texts, and reject bad texts."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import ClassVar

from pydantic import NonNegativeInt
from tqdm import tqdm

from data_prep.files import CAPTION_KEYS, DIFFERENCE_KEYS, Row, manifest_path, parse_row, read_jsonl
from data_prep.line_index import LineIndex
from data_prep.manifest import Manifest
from data_prep.progress import progress
from data_prep.rules.census import Census
from data_prep.rules.judge import Judge, Judgement, RuleOptions
from data_prep.rules.screening_report import ScreeningReport, line_of
from data_prep.step import INPUT, UNRECORDED, Made, OutputStep, Workers
from data_prep.workers import in_order
from pcclip.atomic import atomic_path, atomic_text
from pcclip.paths import sha256_of

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
    samples: NonNegativeInt = 5
    """Number of examples in the report, for each reason and each cut."""
    fit_model: str | None = None
    """Reject a text if its reverse text is at least as close to the image difference, by this model: an open_clip name,
    `local-dir:FOLDER` or `hf-hub:NAME`. Use a finetuned model, since other models hardly know directions. Null: do not
    use images."""
    fit_pretrained: str | None = None
    """Weights of `fit_model`, if the name does not include them."""
    part: str | None = None
    """Screen only this part of the groups: `1/4` to `4/4`. Give each part its own `output`. Null: all."""

    def check_options(self) -> None:
        """Check the rules' options and what needs `captions`."""
        self.check()
        if self.fit_model is not None and self.captions is None:
            raise ValueError("screen.fit_model needs screen.captions, which has the paths of the images; set it")

    @property
    def rejected_file(self) -> Path:
        """File of the rejected rows, unchanged, with `reason` and `detail`. Rows that occur too often are at the end."""
        return Path(self.output).with_suffix(".rejected.jsonl")

    @property
    def report_file(self) -> Path:
        """The Markdown report, next to the output."""
        return Path(self.output).with_suffix(".report.md")

    def input_files(self) -> dict[str, Path]:
        """Return the differences files and the captions."""
        first, *others = _sources(self)
        numbered = {f"differences.{place}": file for place, file in enumerate(others, start=1)}
        return {"differences": first, **numbered, **super().input_files()}

    def is_current(self, manifest: Manifest) -> bool:
        """Return whether the three files are up to date."""
        rejected, report = self.rejected_file, self.report_file
        current = manifest.matches(Path(self.output), _files(rejected, report))
        return current and rejected.is_file() and report.is_file()

    def make(self, manifest: Manifest) -> Made:
        """Write `output`, `rejected` and `report`, in the order of the input.

        Raises:
            ValueError: A bad row, or an image that `captions` does not have.
            ChildProcessError: A process died.
        """
        return _screen(self)


@dataclass(frozen=True)
class Chunk:
    """Some lines of an input.

    Attributes:
        file: The input.
        number: Number of its first line in the file, from 1.
        place: The same in all inputs, from 0.
        lines: The lines.
    """

    file: str
    number: int
    place: int
    lines: list[bytes]


@dataclass
class Screened:
    """Result of screening a chunk.

    Attributes:
        size: Bytes of the chunk.
        passed: Lines to write to the output.
        rejected: Lines to write to the rejected rows.
        census: Hashes of the rows that passed.
        report: Counts and examples.
    """

    size: int
    census: Census
    report: ScreeningReport
    passed: list[bytes] = field(default_factory=list)
    rejected: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """A run of the step. Worker processes recognise it by its name.

    Attributes:
        name: A unique name.
        options: The step.
    """

    name: str
    options: Screen = field(compare=False)


@contextmanager
def _judge(options: Screen) -> Iterator[Judge]:
    with ExitStack() as stack:
        index = None
        if options.captions:
            index = stack.enter_context(LineIndex([Path(options.captions)], CAPTION_KEYS, "id"))
        yield Judge(options, index)


_open = ExitStack()  # the captions of the last run of this worker process


@lru_cache(maxsize=1)  # joblib's processes serve several runs
def _judge_of(run: Run) -> Judge:
    _open.close()
    return _open.enter_context(_judge(run.options))


def _screen_in_worker(run: Run, chunk: Chunk) -> Screened:
    return _screen_chunk(run.options, _judge_of(run), chunk)


def _screen_chunk(options: Screen, judge: Judge, chunk: Chunk) -> Screened:
    done = Screened(sum(map(len, chunk.lines)), Census(), ScreeningReport(options.samples))
    part = options.own_part
    for ahead, line in enumerate(chunk.lines):
        if not line.strip():
            continue
        where = f"{chunk.file}, line {chunk.number + ahead}"
        row = parse_row(line, where, DIFFERENCE_KEYS)
        if not part.holds(row["group"]):
            continue
        judgement = judge.judge(row, where)
        done.report.add(row, judgement)
        if judgement.reason is not None:
            done.rejected.append(_rejected_line(row, judgement))
            continue
        text, reverse_text = judgement.texts[0].raw, judgement.texts[1].raw
        if text == row["text"] and reverse_text == row["reverse_text"]:
            done.passed.append(line.rstrip() + b"\n")
        else:
            done.passed.append(line_of({**row, "text": text, "reverse_text": reverse_text}).encode())
        done.census.add(chunk.place + ahead, row["pair_id"], judgement.texts)
    return done


def _rejected_line(row: Row, judgement: Judgement) -> bytes:
    return line_of({**row, "reason": judgement.reason, "detail": judgement.detail}).encode()


def _screen(options: Screen) -> Made:
    output, rejected, report_file = Path(options.output), options.rejected_file, options.report_file
    sources = _sources(options)
    report, census = ScreeningReport(options.samples), Census()
    with atomic_path(output) as passed_draft, atomic_path(rejected) as rejected_draft:
        with passed_draft.open("wb") as passed, rejected_draft.open("wb") as others:
            for screened in _screen_all(options, sources):
                passed.writelines(screened.passed)
                others.writelines(screened.rejected)
                report.merge(screened.report)
                census.extend(screened.census)
            max_repeats = None if "near_duplicate" in options.skip_rules else options.max_repeats
            excess = census.excess(pairs="repeated_pair" not in options.skip_rules, max_repeats=max_repeats)
            passed.flush()
            rejections = chain(excess, _misfits(options, passed_draft, census))
            drops: dict[int, Judgement] = {}
            for line, reason, detail in rejections:
                drops.setdefault(line, Judgement(reason=reason, detail=detail))
            others.writelines(_rejected_again(sources, drops, report) if drops else ())
        if drops:
            _keep(passed_draft, (line not in drops for line in census.lines))
        manifest_path(output).unlink(missing_ok=True)
    with atomic_text(report_file) as stream:
        stream.write(report.markdown())
    message = f"{report.passed} of {report.rows} rows passed; see {report_file}"
    return Made(report.counts(), files=_files(rejected, report_file), message=message)


def _files(rejected: Path, report: Path) -> dict[str, str | Path]:
    """Return the further files for the manifest. The report is recorded by its hash, since its size rarely changes."""
    return {"rejected": rejected, "report": sha256_of(report) if report.is_file() else report}


def _sources(options: Screen) -> list[Path]:
    pattern = Path(options.differences)
    found = [pattern] if pattern.is_file() else sorted(pattern.parent.glob(pattern.name))
    files = [file for file in found if file == pattern or not file.name.endswith(FILES_NEXT_TO_OUTPUTS)]
    if not files:
        raise FileNotFoundError(f"{pattern}: file not found; check the path, or run the step that writes it first")
    return files


def _misfits(options: Screen, passed: Path, census: Census) -> Iterator[tuple[int, str, str]]:
    if options.fit_model is None or options.captions is None or "misfit" in options.skip_rules:
        return
    from data_prep.steps.tower import misfits  # which needs torch

    rows = (row for _, row in read_jsonl(passed, DIFFERENCE_KEYS))
    numbered = zip(census.lines, rows, strict=True)
    yield from misfits(numbered, Path(options.captions), options.fit_model, options.fit_pretrained)


def _chunks(sources: Iterable[Path]) -> Iterator[Chunk]:
    place = 0
    for source in sources:
        number = 1
        with source.open("rb") as stream:
            while lines := stream.readlines(CHUNK):
                yield Chunk(str(source), number, place, lines)
                number += len(lines)
                place += len(lines)


def _screen_all(options: Screen, sources: list[Path]) -> Iterator[Screened]:
    size = sum(source.stat().st_size for source in sources)
    workers = min(options.workers, -(-size // CHUNK))
    bar: tqdm[None] = progress((), desc="screen", unit="B", total=size)
    with bar, ExitStack() as stack:
        screen: Callable[[Chunk], Screened] = partial(_screen_in_worker, Run(secrets.token_hex(), options))
        if workers < 2:
            screen = partial(_screen_chunk, options, stack.enter_context(_judge(options)))
        for screened in in_order(screen, _chunks(sources), workers, "screen.workers"):
            bar.update(screened.size)
            yield screened


def _rejected_again(sources: list[Path], drops: Mapping[int, Judgement], report: ScreeningReport) -> Iterator[bytes]:
    """Yield the rejected lines for rows that were already written to the output, as they were in the input."""
    for chunk in _chunks(sources):
        for ahead, line in enumerate(chunk.lines):
            judgement = drops.get(chunk.place + ahead)
            if judgement is not None:
                row = parse_row(line, chunk.file, DIFFERENCE_KEYS)
                report.drop(row, judgement)
                yield _rejected_line(row, judgement)


def _keep(file: Path, wanted: Iterable[bool]) -> None:
    with atomic_path(file) as draft, file.open("rb") as source, draft.open("wb") as stream:
        stream.writelines(line for line, keep in zip(source, wanted, strict=True) if keep)
