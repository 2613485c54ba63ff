"""Step `class_texts`: what a language model writes of classes, from their names alone.

With `classes` a sentence on each, for extended prompts; with `pairs` how the two classes of each pair differ, both ways, for
comparative prompting. Answers are kept, so that nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from omegaconf import MISSING

from data_prep.files import Row, read_jsonl
from data_prep.llm.journal import failures_path
from data_prep.llm.options import ModelOptions
from data_prep.llm.prompt import Prompt
from data_prep.llm.step import ask, checked_prompt
from data_prep.llm.task import Question, Requests
from data_prep.lock import locks_output
from data_prep.manifest import Manifest
from data_prep.parts import Part

STEP_VERSION = 1
BACKENDS = ("openai", "batch")
DESCRIPTION = ("description",)
COMPARISON = ("text", "reverse_text")


@dataclass
class Options(ModelOptions):
    """Options of the step, besides those of `ModelOptions`.

    Attributes:
        output: The JSON Lines to write: rows `{"name", "description"}`, or `{"first", "second", "text", "reverse_text"}`.
        classes: File with one class name a line, to describe.
        pairs: JSON Lines `{"first", "second"}`, to compare, such as the callback `ConfusedPairs` writes, or a `.txt` with one
            class name a line, for all pairs; in place of `classes`.
        kind: What the classes are, e.g. `flowers`; goes into the prompt.
        backend: `openai`, or `batch` for batch files.
        prompt: YAML file, or name of a shipped prompt. Default: `class_description` or `class_comparison`.
    """

    output: str = MISSING
    classes: str | None = None
    pairs: str | None = None
    kind: str = "things"
    backend: str = "openai"


class ClassTask:
    """Each class, asked of a language model by its name."""

    id_key = "name"
    sampled = False

    def __init__(self, file: Path, prompt: Prompt, options: Options) -> None:
        self._file, self.prompt, self._kind = file, prompt, options.kind
        self._part = Part.parse(options.part, "class_texts.part")

    def ids(self) -> Iterator[str]:
        """The names, each once.

        Raises:
            ValueError: There is none, or one comes twice.
        """
        return (name for name in _names(self._file) if self._part.holds(name))

    def questions(self, wanted: Iterable[bool]) -> Iterator[Question]:
        """The classes that are wanted."""
        for name, want in zip(self.ids(), wanted, strict=True):
            if want:
                yield Question(name, {"name": name}, {"name": name, "kind": self._kind})


class ClassPairTask:
    """Each pair of classes, both directions in one request."""

    id_key = "pair_id"
    sampled = False

    def __init__(self, file: Path, prompt: Prompt, options: Options) -> None:
        self._file, self.prompt, self._kind = file, prompt, options.kind
        self._part = Part.parse(options.part, "class_texts.part")

    def ids(self) -> Iterator[str]:
        """`first / second`."""
        return (name for name, _, _ in self._rows())

    def questions(self, wanted: Iterable[bool]) -> Iterator[Question]:
        """The pairs that are wanted."""
        for (name, first, second), want in zip(self._rows(), wanted, strict=True):
            if want:
                row: Row = {self.id_key: name, "first": first, "second": second}
                yield Question(name, row, {"first": first, "second": second, "kind": self._kind})

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        if self._file.suffix == ".txt":
            pairs: Iterable[tuple[str, str]] = combinations(_names(self._file), 2)
        else:
            rows = read_jsonl(self._file, {"first": str, "second": str})
            pairs = ((row["first"], row["second"]) for _, row in rows)
        for first, second in pairs:
            name = f"{first} / {second}"
            if self._part.holds(name):
                yield name, first, second


def _names(file: Path) -> list[str]:
    names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not names or len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{file}: class names, each once and one a line; found {twice or 'none'}")
    return names


@locks_output
def run(options: Options) -> None:
    """Read `classes` or `pairs`, write `output`; what failed is left out, and recorded next to it.

    Raises:
        FileNotFoundError: An input is missing.
        ValueError: A bad option, prompt or row, answers of other settings, or an endpoint with which it is useless to go on.
    """
    if options.backend not in BACKENDS:
        raise ValueError(
            f"class_texts.backend: unknown backend {options.backend!r}; choose one of {', '.join(BACKENDS)}"
        )
    given = options.classes or options.pairs
    if given is None or (options.classes and options.pairs):
        raise ValueError("class_texts: give `classes` to describe, or `pairs` to compare, and not both")
    source, output = Path(given), Path(options.output)
    if not source.is_file():
        raise FileNotFoundError(f"{source}: file not found; check the path")
    options.prompt = options.prompt or ("class_description" if options.classes else "class_comparison")
    known, answer = (("name", "kind"), DESCRIPTION) if options.classes else (("first", "second", "kind"), COMPARISON)
    prompt = checked_prompt("class_texts", options, known, answer)
    requests = Requests(options, prompt)
    settings = {"writer": f"openai:{options.model}", "kind": options.kind, "part": options.part, **requests.settings}
    manifest = Manifest("class_texts", STEP_VERSION, {"source": source}, settings)
    again = options.retry_failed and failures_path(output).exists()
    if manifest.matches(output, resumes=True) and not again and not options.dry_run:
        print(f"{output} is up to date")
        return
    task = (ClassTask if options.classes else ClassPairTask)(source, prompt, options)
    totals = ask(manifest, task, requests, options, output, batch=options.backend == "batch")
    if totals is not None:
        manifest.write(output, totals.counts(options))
