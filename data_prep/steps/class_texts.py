"""Step `class_texts`: what a language model writes of classes, from their names alone.

With `classes` a sentence on each, for extended prompts; with `pairs` how the two classes of each pair differ, both ways, for
comparative prompting. Answers are kept, so that nothing is asked twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import combinations
from pathlib import Path
from typing import ClassVar, Literal

from data_prep.files import read_jsonl
from data_prep.llm.model_step import ModelStep
from data_prep.llm.questions import Question, QuestionList, Questions, Requests
from data_prep.llm.replies import Text
from data_prep.manifest import Manifest
from data_prep.step import INPUT, Made
from pcclip.paths import read_text


@dataclass(kw_only=True)
class ClassTexts(ModelStep):
    """Write what a language model says of classes, from their names alone.

    The output has rows `{"name", "description"}`, or `{"first", "second", "text", "reverse_text"}`.
    """

    version: ClassVar[int] = 1

    classes: str | None = field(default=None, metadata=INPUT)
    """File with one class name a line, to describe."""
    pairs: str | None = field(default=None, metadata=INPUT)
    """JSON Lines `{"first", "second"}`, to compare, such as the step `confused_pairs` writes, or a `.txt` with one
    class name a line, for all pairs; in place of `classes`."""
    kind: str = "things"
    """What the classes are, e.g. `flowers`; goes into the prompt."""
    backend: Literal["openai", "batch"] = "openai"
    """`openai`, or `batch` for batch files."""
    prompt: str = ""
    """YAML file, or name of a shipped prompt. Default: `class_description` or `class_comparison`."""

    def check_options(self) -> None:
        if bool(self.classes) == bool(self.pairs):
            raise ValueError("class_texts: give `classes` to describe, or `pairs` to compare, and not both")
        self.prompt = self.prompt or ("class_description" if self.classes else "class_comparison")
        super().check_options()

    @cached_property
    def requests(self) -> Requests:
        if self.classes:
            return Requests("class_texts", self, ("name", "kind"), {"description": Text})
        known = ("first", "second", "kind")
        return Requests("class_texts", self, known, {"text": Text, "reverse_text": Text})

    def make(self, manifest: Manifest) -> Made | None:
        """Ask; what failed is left out, and recorded next to the output.

        Raises:
            ValueError: A bad row, answers of other settings, or an endpoint with which it is useless to go on.
        """
        task = QuestionList("name", self._classes) if self.classes else QuestionList("pair_id", self._pairs)
        return self.ask(task)

    def _classes(self) -> Questions:
        part = self.own_part
        for name in _names(Path(str(self.classes))):
            if part.holds(name):
                yield name, partial(Question, name, {"name": name}, {"name": name, "kind": self.kind})

    def _pairs(self) -> Questions:
        """Yield each pair of classes, both directions in one request."""
        file, part = Path(str(self.pairs)), self.own_part
        pairs: Iterable[tuple[str, str]] = (
            combinations(_names(file), 2)
            if file.suffix == ".txt"
            else ((row["first"], row["second"]) for _, row in read_jsonl(file, {"first": str, "second": str}))
        )
        for first, second in pairs:
            name, classes = f"{first} / {second}", {"first": first, "second": second}
            if part.holds(name):
                yield name, partial(Question, name, {"pair_id": name, **classes}, {**classes, "kind": self.kind})


def _names(file: Path) -> list[str]:
    names = [line.strip() for line in read_text(file, "class names").splitlines() if line.strip()]
    if not names or len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{file}: class names, each once and one a line; found {twice or 'none'}")
    return names
