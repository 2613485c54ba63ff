"""Step `class_texts`: texts about classes, written by a language model from the class names.

With `classes` a sentence about each class, for extended prompts. With `pairs` the differences between two classes in both
directions, for comparative prompting.
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
    """Let a language model describe or compare classes, given their names.

    The output has rows `{"name", "description"}`, or `{"first", "second", "text", "reverse_text"}`.
    """

    version: ClassVar[int] = 1

    classes: str | None = field(default=None, metadata=INPUT)
    """File with one class name per line, to describe."""
    pairs: str | None = field(default=None, metadata=INPUT)
    """Pairs of classes to compare, instead of `classes`: JSON Lines `{"first", "second"}` from the step `confused_pairs`.
    Or a `.txt` file with one class name per line, to compare all pairs."""
    kind: str = "things"
    """Kind of classes, e.g. `flowers`, for the prompt."""
    backend: Literal["openai", "batch"] = "openai"
    """`openai`: a language model at an endpoint. `batch`: by batch files."""
    prompt: str = ""
    """YAML file, or the name of a shipped prompt. Default: `class_description` or `class_comparison`."""

    def check_options(self) -> None:
        if bool(self.classes) == bool(self.pairs):
            raise ValueError("class_texts: set either `classes` or `pairs`")
        self.prompt = self.prompt or ("class_description" if self.classes else "class_comparison")
        super().check_options()

    @cached_property
    def requests(self) -> Requests:
        if self.classes:
            return Requests("class_texts", self, ("name", "kind"), {"description": Text})
        known = ("first", "second", "kind")
        return Requests("class_texts", self, known, {"text": Text, "reverse_text": Text})

    def make(self, manifest: Manifest) -> Made | None:
        """Ask for the texts. Failures are recorded next to the output.

        Raises:
            ValueError: A row is invalid, an earlier output has other settings, or an error affects all questions.
        """
        task = QuestionList("name", self._classes) if self.classes else QuestionList("pair_id", self._pairs)
        return self.ask(task)

    def _classes(self) -> Questions:
        part = self.own_part
        for name in _names(Path(str(self.classes))):
            if part.holds(name):
                yield name, partial(Question, name, {"name": name}, {"name": name, "kind": self.kind})

    def _pairs(self) -> Questions:
        """Yield one question per pair of classes, which asks for both directions."""
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
        raise ValueError(f"{file}: expected one class name per line, each once; found {twice or 'none'}")
    return names
