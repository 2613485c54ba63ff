"""Step `rewrite`: captions rewritten by a language model. Training on them shows the effect of the model's style alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import PositiveInt

from data_prep.files import CAPTION_KEYS, Row, image_path, image_reference, read_captions, read_jsonl, write_jsonl
from data_prep.line_index import LineIndex
from data_prep.llm.model_step import ModelStep
from data_prep.llm.questions import Question, QuestionList, Questions, Requests
from data_prep.llm.replies import Text
from data_prep.manifest import Manifest
from data_prep.step import INPUT, Made


@dataclass(kw_only=True)
class Rewrite(ModelStep):
    """Rewrite captions by a language model, as a control: training on them shows the effect of the model's style alone.

    The output is a `captions.jsonl`. The answers are next to it in `<stem>.answers.jsonl`.
    """

    version: ClassVar[int] = 2

    captions: str = field(metadata=INPUT)
    """Captions to rewrite (`captions.jsonl`)."""
    backend: Literal["openai", "batch"] = "openai"
    """`openai`: a language model at an endpoint. `batch`: by batch files."""
    captions_per_image: PositiveInt | None = None
    """Number of captions to rewrite per image. Null: all."""
    prompt: str = "rewrite"

    @property
    def answers(self) -> Path:
        """`<stem>.answers.jsonl`, next to the output."""
        return Path(self.output).with_name(f"{Path(self.output).stem}.answers.jsonl")

    def check_options(self) -> None:
        if Path(self.captions).absolute() == Path(self.output).absolute():
            raise ValueError(f"{self.output}: `output` must not be the file of `captions`")
        super().check_options()

    @cached_property
    def requests(self) -> Requests:
        return Requests("rewrite", self, ("caption",), {"text": Text})

    def make(self, manifest: Manifest) -> Made | None:
        """Rewrite the captions. Leave out captions that failed, and images for which all failed.

        Raises:
            ValueError: A row is invalid, earlier answers were made with other settings, or an error affects all questions.
        """
        asked = self.ask(QuestionList("caption_id", self._questions))
        if asked is None:
            return None
        images = write_jsonl(Path(self.output), self._rewritten())
        return Made({"images": images, **asked.counts}, message=f"{images} images")

    def _questions(self) -> Questions:
        """Yield a question for each caption, with the id `<image id>#<number of the caption from 0>`."""
        part = self.own_part
        for _, row in read_jsonl(Path(self.captions), CAPTION_KEYS):
            for number, caption in enumerate(
                row["captions"][: self.captions_per_image] if part.holds(row["id"]) else ()
            ):
                name = f"{row['id']}#{number}"
                yield name, partial(Question, name, {"caption_id": name, "id": row["id"]}, {"caption": caption.strip()})

    def _rewritten(self) -> Iterator[Row]:
        with LineIndex([self.answers], {"caption_id": str, "text": str}, "caption_id") as answers:
            for _, row in read_captions(Path(self.captions)):
                names = [f"{row['id']}#{number}" for number in range(len(row["captions"]))]
                if texts := [answer["text"] for answer in map(answers.get, names) if answer is not None]:
                    file = image_reference(image_path(Path(self.captions), row), Path(self.output))
                    yield {**row, "captions": texts, "file": file}
