"""Step `rewrite`: captions in a language model's own words, a control that tells its style from what differences teach."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from data_prep.describe import scene_of
from data_prep.files import CAPTION_KEYS, Row, image_path, image_reference, read_captions, read_jsonl, write_jsonl
from data_prep.line_index import LineIndex
from data_prep.llm.journal import failures_path
from data_prep.llm.options import ModelOptions
from data_prep.llm.prompt import Prompt
from data_prep.llm.step import ask, checked_prompt
from data_prep.llm.task import Question, Requests
from data_prep.lock import locks_output
from data_prep.manifest import Manifest
from data_prep.parts import Part
from data_prep.world.captions import captions as write_captions

STEP_VERSION = 1
BACKENDS = ("scene", "openai", "batch")


@dataclass
class Options(ModelOptions):
    """Options of the step, on top of those of `ModelOptions`.

    Attributes:
        captions: The `captions.jsonl` to rewrite.
        output: The `captions.jsonl` to write. The model's answers lie next to it in `<stem>.answers.jsonl`.
        backend: `openai`, `batch` for batch files, or `scene`: the embedded world's own caption writer.
        seed: Seed of the wording, for `scene`.
        captions_per_image: How many captions of each image are rewritten, the first ones; None is all.
    """

    captions: str = MISSING
    output: str = MISSING
    backend: str = "openai"
    seed: int = 0
    captions_per_image: int | None = None
    prompt: str = field(default="rewrite", kw_only=True)


class CaptionTask:
    """Each caption of each image, asked of a language model by itself."""

    id_key = "caption_id"
    sampled = False

    def __init__(self, captions: Path, prompt: Prompt, options: Options) -> None:
        self._captions, self.prompt, self._most = captions, prompt, options.captions_per_image
        self._part = Part.parse(options.part, "rewrite.part")

    def ids(self) -> Iterator[str]:
        """`<image id>#<number of the caption from 0>`."""
        return (name for name, _, _ in self._rows())

    def questions(self, wanted: Iterable[bool]) -> Iterator[Question]:
        """The captions that are wanted."""
        for (name, image, caption), want in zip(self._rows(), wanted, strict=True):
            if want:
                yield Question(name, {self.id_key: name, "id": image}, {"caption": caption})

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        for _, row in read_jsonl(self._captions, CAPTION_KEYS):
            if not self._part.holds(row["id"]):
                continue
            for number, caption in enumerate(row["captions"][: self._most]):
                yield f"{row['id']}#{number}", row["id"], str(caption).strip()


def answers_path(output: Path) -> Path:
    """`<stem>.answers.jsonl`, next to the output."""
    return output.with_name(f"{output.stem}.answers.jsonl")


@locks_output
def run(options: Options) -> None:
    """Read `captions`, write `output`; captions whose rewriting failed, and images without any left, are left out.

    Raises:
        FileNotFoundError: An input is missing.
        ValueError: A bad option, prompt or row, answers of other settings, or an endpoint with which it is useless to go on.
    """
    if options.backend not in BACKENDS:
        raise ValueError(f"rewrite.backend: unknown backend {options.backend!r}; choose one of {', '.join(BACKENDS)}")
    if options.captions_per_image is not None and options.captions_per_image < 1:
        raise ValueError(f"rewrite.captions_per_image must be at least 1, found {options.captions_per_image}")
    captions, output = Path(options.captions), Path(options.output)
    if captions.absolute() == output.absolute():
        raise ValueError(f"{output}: `output` must be another file than `captions`")
    if options.backend == "scene":
        _rewrite_scenes(options, captions, output)
        return
    prompt = checked_prompt("rewrite", options, ("caption",), ("text",))
    requests = Requests(options, prompt)
    if not captions.is_file():
        raise FileNotFoundError(f"{captions}: file not found; check the path, or run the step that writes it first")
    described = {"writer": f"openai:{options.model}", **requests.settings}
    manifest = Manifest(
        "rewrite",
        STEP_VERSION,
        {"captions": captions},
        {**described, "captions_per_image": options.captions_per_image, "part": options.part},
    )
    answers = answers_path(output)
    again = options.retry_failed and failures_path(answers).exists()
    if manifest.matches(output) and not again and not options.dry_run:
        print(f"{output} is up to date")
        return
    task = CaptionTask(captions, prompt, options)
    totals = ask(manifest, task, requests, options, answers, batch=options.backend == "batch")
    if totals is None:
        return
    with LineIndex(answers, {"id": str, "caption_id": str, "text": str}, "id") as index:
        images = write_jsonl(output, _rewritten(captions, index, output))
    manifest.write(output, {"images": images, **totals.counts(options)})
    print(f"{output}: {images} images")


def _rewrite_scenes(options: Options, captions: Path, output: Path) -> None:
    """As many other captions of each scene, each in words of its own."""
    if not captions.is_file():
        raise FileNotFoundError(f"{captions}: file not found; check the path, or run the step that writes it first")
    settings = {
        "writer": "scene",
        "seed": options.seed,
        "captions_per_image": options.captions_per_image,
        "part": options.part,
    }
    part = Part.parse(options.part, "rewrite.part")
    manifest = Manifest("rewrite", STEP_VERSION, {"captions": captions}, settings)
    if manifest.matches(output):
        print(f"{output} is up to date")
        return

    def rows() -> Iterator[Row]:
        for _, row in read_captions(captions):
            if not part.holds(row["id"]):
                continue
            rng = random.Random(f"{options.seed}/{row['id']}/rewritten")
            wanted = len(row["captions"][: options.captions_per_image])
            file = image_reference(image_path(captions, row), output)
            yield {**row, "file": file, "captions": write_captions(rng, scene_of(row), wanted)}

    images = write_jsonl(output, rows())
    manifest.write(output, {"images": images})
    print(f"{output}: {images} images")


def _rewritten(captions: Path, answers: LineIndex, output: Path) -> Iterator[Row]:
    for _, row in read_captions(captions):
        found = {answer["caption_id"]: answer["text"] for _, answer in answers.rows(row["id"])}
        texts = [found[name] for name in (f"{row['id']}#{i}" for i in range(len(row["captions"]))) if name in found]
        if texts:
            yield {**row, "file": image_reference(image_path(captions, row), output), "captions": texts}
