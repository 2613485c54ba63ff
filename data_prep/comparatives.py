"""Step `comparatives`: a language model says how classes differ, from their names, for comparative prompting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from omegaconf import MISSING

from data_prep.files import read_jsonl
from data_prep.llm.journal import failures_path
from data_prep.llm.options import ModelOptions
from data_prep.llm.prompt import Prompt
from data_prep.llm.step import ask, checked_prompt
from data_prep.llm.task import Question, Requests
from data_prep.manifest import Manifest
from pcclip.data.format import sha256_of

STEP_VERSION = 1
BACKENDS = ("openai", "batch")
Pair = tuple[str, str]


@dataclass
class Options(ModelOptions):
    """Options of the step, besides those of `ModelOptions`.

    Attributes:
        classes: File with the name of a class a line.
        output: The JSON Lines to write, `{"pair_id", "first", "second", "text", "reverse_text"}`, which `pcclip prompt`
            and the callback `ComparativePrompting` read.
        pairs: JSON Lines `{"first", "second"}` of the pairs to compare, such as the callback `ConfusedPairs` writes; all
            pairs of the classes without.
        backend: `openai`, or `batch` for batch files.
    """

    classes: str = MISSING
    output: str = MISSING
    pairs: str | None = None
    backend: str = "openai"
    prompt: str = field(default="conf/prompts/comparatives.yaml", kw_only=True)


class ClassTask:
    """Both directions of each pair of classes, asked in one request."""

    id_key = "pair_id"

    def __init__(self, pairs: list[Pair], prompt: Prompt) -> None:
        self._pairs, self.prompt = pairs, prompt

    def ids(self) -> Iterator[str]:
        """`<first> / <second>`."""
        return (f"{first} / {second}" for first, second in self._pairs)

    def questions(self, wanted: Callable[[str], bool]) -> Iterator[Question]:
        """The pairs whose ids are wanted."""
        for name, (first, second) in zip(self.ids(), self._pairs, strict=True):
            if wanted(name):
                row = {self.id_key: name, "first": first, "second": second}
                yield Question(name, row, {"first": first, "second": second})


def run(options: Options) -> None:
    """Read `classes`, and `pairs` if given; write `output`.

    Raises:
        FileNotFoundError: An input is missing.
        ValueError: A bad option, prompt, class or pair, an output of other settings, or an endpoint with which it is
            useless to go on.
    """
    if options.backend not in BACKENDS:
        raise ValueError(
            f"comparatives.backend: unknown backend {options.backend!r}; choose one of {', '.join(BACKENDS)}"
        )
    output = Path(options.output)
    prompt = checked_prompt("comparatives", options, ("first", "second"), ("text", "reverse_text"))
    classes = _read_classes(Path(options.classes))
    pairs = list(combinations(classes, 2)) if options.pairs is None else _read_pairs(Path(options.pairs), set(classes))
    requests = Requests(options, prompt)
    inputs = {name: sha256_of(Path(file)) for name in ("classes", "pairs") if (file := getattr(options, name))}
    manifest = Manifest(
        "comparatives", STEP_VERSION, inputs, {"writer": f"openai:{options.model}", **requests.settings}
    )
    again = options.retry_failed and failures_path(output).exists()
    if manifest.matches(output) and not again and not options.dry_run:
        print(f"{output} is up to date")
        return
    totals = ask("comparatives", ClassTask(pairs, prompt), requests, options, output, batch=options.backend == "batch")
    if totals is not None:
        manifest.write(output, totals.counts(options))


def _read_classes(file: Path) -> list[str]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: file of class names not found; write one name a line")
    names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"{file}: must name at least two classes, each once; found {len(names)}")
    return names


def _read_pairs(file: Path, classes: set[str]) -> list[Pair]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: file of pairs of classes not found; check the path")
    found: dict[frozenset[str], Pair] = {}
    for number, row in read_jsonl(file, {"first": str, "second": str}):
        pair = (row["first"], row["second"])
        if not set(pair) <= classes or pair[0] == pair[1]:
            raise ValueError(f"{file}, line {number}: {pair} are not two of the {len(classes)} classes")
        found.setdefault(frozenset(pair), pair)
    if not found:
        raise ValueError(f"{file}: no pair in it")
    return list(found.values())
