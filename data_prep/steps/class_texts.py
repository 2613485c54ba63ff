"""Step `class_texts`: what a language model writes of classes, from their names alone.

With `classes` a sentence on each, for extended prompts; with `pairs` how the two classes of each pair differ, both ways, for
comparative prompting. Answers are kept, so that nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Literal

from data_prep.files import Row, read_jsonl
from data_prep.llm.model_step import ModelStep
from data_prep.llm.prompt import Prompt
from data_prep.llm.step import ask, checked_prompt
from data_prep.llm.task import Question, Requests
from data_prep.manifest import Manifest
from data_prep.step import INPUT, UNRECORDED, Made

DESCRIPTION = ("description",)
COMPARISON = ("text", "reverse_text")


@dataclass(kw_only=True)
class ClassTexts(ModelStep):
    """Write what a language model says of classes, from their names alone."""

    name: ClassVar[str] = "class_texts"
    version: ClassVar[int] = 1

    output: str = field(metadata=UNRECORDED)
    """The JSON Lines to write: rows `{"name", "description"}`, or `{"first", "second", "text", "reverse_text"}`."""
    classes: str | None = field(default=None, metadata=INPUT)
    """File with one class name a line, to describe."""
    pairs: str | None = field(default=None, metadata=INPUT)
    """JSON Lines `{"first", "second"}`, to compare, such as the callback `ConfusedPairs` writes, or a `.txt` with one
    class name a line, for all pairs; in place of `classes`."""
    kind: str = "things"
    """What the classes are, e.g. `flowers`; goes into the prompt."""
    backend: Literal["openai", "batch"] = "openai"
    """`openai`, or `batch` for batch files."""
    prompt: str = ""
    """YAML file, or name of a shipped prompt. Default: `class_description` or `class_comparison`."""

    def check_options(self) -> None:
        """Check the input, the endpoint's options and the prompt."""
        if bool(self.classes) == bool(self.pairs):
            raise ValueError("class_texts: give `classes` to describe, or `pairs` to compare, and not both")
        self.prompt = self.prompt or ("class_description" if self.classes else "class_comparison")
        self.requests()

    def requests(self) -> Requests:
        """Return what makes the requests."""
        known, answer = (("name", "kind"), DESCRIPTION) if self.classes else (("first", "second", "kind"), COMPARISON)
        return Requests(self, checked_prompt("class_texts", self, known, answer))

    def settings(self) -> dict[str, Any]:
        """Return the options that shape the texts."""
        settings = {"writer": f"openai:{self.model}", "kind": self.kind, "part": self.part}
        return {**settings, **self.requests().settings}

    def make(self, manifest: Manifest) -> Made | None:
        """Ask; what failed is left out, and recorded next to the output.

        Raises:
            ValueError: A bad row, answers of other settings, or an endpoint with which it is useless to go on.
        """
        requests = self.requests()
        task: ClassTask | ClassPairTask
        if self.classes:
            task = ClassTask(Path(self.classes), requests.prompt, self)
        else:
            task = ClassPairTask(Path(str(self.pairs)), requests.prompt, self)
        totals = ask(manifest, task, requests, self, Path(self.output), batch=self.backend == "batch")
        return None if totals is None else Made(totals.counts(self))


class ClassTask:
    """Each class, asked of a language model by its name."""

    id_key = "name"
    sampled = False

    def __init__(self, file: Path, prompt: Prompt, options: ClassTexts) -> None:
        self._file, self.prompt, self._kind = file, prompt, options.kind
        self._part = options.own_part

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

    def __init__(self, file: Path, prompt: Prompt, options: ClassTexts) -> None:
        self._file, self.prompt, self._kind = file, prompt, options.kind
        self._part = options.own_part

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
