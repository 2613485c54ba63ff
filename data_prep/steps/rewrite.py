"""Step `rewrite`: captions in a language model's own words, a control that tells its style from what differences teach."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from data_prep.files import CAPTION_KEYS, Row, image_path, image_reference, read_captions, read_jsonl, write_jsonl
from data_prep.line_index import LineIndex
from data_prep.llm.model_step import ModelStep
from data_prep.llm.prompt import Prompt
from data_prep.llm.step import ask, checked_prompt
from data_prep.llm.task import Question, Requests
from data_prep.manifest import Manifest
from data_prep.step import INPUT, UNRECORDED, Made, at_least
from data_prep.steps.describe import scene_of
from data_prep.world.captioner import captions as write_captions


@dataclass(kw_only=True)
class Rewrite(ModelStep):
    """Write captions in a language model's own words: a control that separates its style from what differences teach."""

    name: ClassVar[str] = "rewrite"
    version: ClassVar[int] = 1

    captions: str = field(metadata=INPUT)
    """The `captions.jsonl` to rewrite."""
    output: str = field(metadata=UNRECORDED)
    """The `captions.jsonl` to write. The model's answers lie next to it in `<stem>.answers.jsonl`."""
    backend: Literal["openai", "batch", "scene"] = "openai"
    """`openai`, `batch` for batch files, or `scene`: the embedded world's own caption writer."""
    seed: int = 0
    """Seed of the wording, for `scene`."""
    captions_per_image: int | None = field(default=None, metadata=at_least(1))
    """How many captions of each image are rewritten, the first ones; None is all."""
    prompt: str = "rewrite"

    @property
    def asks_model(self) -> bool:
        """Whether a language model rewrites."""
        return self.backend != "scene"

    @property
    def answers(self) -> Path:
        """`<stem>.answers.jsonl`, next to the output."""
        return Path(self.output).with_name(f"{Path(self.output).stem}.answers.jsonl")

    def check_options(self) -> None:
        """Check `output` and `part`, and the endpoint's options and the prompt where they are used."""
        _ = self.own_part
        if Path(self.captions).absolute() == Path(self.output).absolute():
            raise ValueError(f"{self.output}: `output` must be another file than `captions`")
        if self.asks_model:
            self.requests()

    def requests(self) -> Requests:
        """Return what makes the requests."""
        return Requests(self, checked_prompt("rewrite", self, ("caption",), ("text",)))

    def settings(self) -> dict[str, Any]:
        """Return the options that shape the captions of this backend."""
        shared = {"captions_per_image": self.captions_per_image, "part": self.part}
        if not self.asks_model:
            return {"writer": "scene", "seed": self.seed, **shared}
        return {"writer": f"openai:{self.model}", **self.requests().settings, **shared}

    def make(self, manifest: Manifest) -> Made | None:
        """Rewrite; captions whose rewriting failed, and images without any left, are left out.

        Raises:
            ValueError: A bad row, answers of other settings, or an endpoint with which it is useless to go on.
        """
        captions, output = Path(self.captions), Path(self.output)
        if not self.asks_model:
            images = write_jsonl(output, self._rewritten_scenes())
            return Made({"images": images}, message=f"{images} images")
        requests = self.requests()
        task = CaptionTask(captions, requests.prompt, self)
        totals = ask(manifest, task, requests, self, self.answers, batch=self.backend == "batch")
        if totals is None:
            return None
        with LineIndex(self.answers, {"id": str, "caption_id": str, "text": str}, "id") as index:
            images = write_jsonl(output, _rewritten(captions, index, output))
        return Made({"images": images, **totals.counts(self)}, message=f"{images} images")

    def _rewritten_scenes(self) -> Iterator[Row]:
        """As many other captions of each scene, each in words of its own."""
        captions, part = Path(self.captions), self.own_part
        for _, row in read_captions(captions):
            if not part.holds(row["id"]):
                continue
            rng = random.Random(f"{self.seed}/{row['id']}/rewritten")
            wanted = len(row["captions"][: self.captions_per_image])
            file = image_reference(image_path(captions, row), Path(self.output))
            yield {**row, "file": file, "captions": write_captions(rng, scene_of(row), wanted)}


class CaptionTask:
    """Each caption of each image, asked of a language model by itself."""

    id_key = "caption_id"
    sampled = False

    def __init__(self, captions: Path, prompt: Prompt, options: Rewrite) -> None:
        self._captions, self.prompt, self._most = captions, prompt, options.captions_per_image
        self._part = options.own_part

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


def _rewritten(captions: Path, answers: LineIndex, output: Path) -> Iterator[Row]:
    for _, row in read_captions(captions):
        found = {answer["caption_id"]: answer["text"] for _, answer in answers.rows(row["id"])}
        texts = [found[name] for name in (f"{row['id']}#{i}" for i in range(len(row["captions"]))) if name in found]
        if texts:
            yield {**row, "file": image_reference(image_path(captions, row), output), "captions": texts}
