"""Questions to a language model, prompts, the requests made of both, and the keys of answers."""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from data_prep.files import SURROGATE, Row
from data_prep.images import data_url, read_bytes
from data_prep.llm.options import ModelOptions
from data_prep.llm.replies import Completion, NoAnswerError, malformed, parse_reply
from pcclip.data.pictures import UnreadableImageError
from pcclip.validation import read_yaml

Message = dict[str, Any]

PLACEHOLDER = re.compile(r"\{(\w+)\}")
SHIPPED = Path(str(resources.files("data_prep") / "prompts"))
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True)


@dataclass(frozen=True)
class Question:
    """Content of one request."""

    id: str
    """Unique among the questions of a task."""
    row: Row
    """First fields of the output row, with the id. The fields of the answer follow."""
    values: Mapping[str, str]
    """Values of the prompt's placeholders."""
    pictures: tuple[Path, ...] = ()
    """Image files to send."""


Questions = Iterator[tuple[str, Callable[[], Question]]]


@dataclass(frozen=True)
class QuestionList:
    """Questions in a fixed order. They are generated again for each pass, so they take no memory."""

    id_key: str
    """Name of the id field in a row."""
    questions: Callable[[], Questions]
    """Return an iterator over (id, function that makes the question). Most passes need only the ids."""
    sampled: bool = False
    """Whether a later run may ask other questions. If so, answers to questions that are no longer asked are kept."""

    def ids(self) -> Iterator[str]:
        """Yield the ids of all questions."""
        return (name for name, _ in self.questions())

    def chosen(self, mask: Iterable[bool]) -> Iterator[Question]:
        """Yield the questions for which the mask is true. It has one value per question."""
        return (make() for (_, make), chosen in zip(self.questions(), mask, strict=True) if chosen)


class Prompt(BaseModel):
    """Content of a prompt's YAML file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int
    """Version, to be increased with each change of wording."""
    system: str
    """The system message."""
    user: str
    """Template of the user message."""
    answer: dict[str, str]
    """Description of each field of the answer."""
    _name: str = ""

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self._name}@{self.version}"

    @property
    def identity(self) -> dict[str, Any]:
        """Name, version and a hash of the wording. The hash detects changes without a new version."""
        text = json.dumps([self.system, self.user, self.answer], ensure_ascii=False)
        return {"name": self._name, "version": self.version, "sha256": hashlib.sha256(text.encode()).hexdigest()[:16]}

    @property
    def placeholders(self) -> set[str]:
        """Names of the placeholders in the template."""
        return set(PLACEHOLDER.findall(self.user))

    @cached_property
    def system_message(self) -> str:
        """The system message, followed by a description of the answer's fields.

        The description is there for every answer format: some endpoints enforce a schema without showing it to the model,
        and `json_object` and plain text have no schema.
        """
        fields = [f'"{name}": {meaning}' for name, meaning in self.answer.items()]
        form = "Answer with one JSON object and nothing else. Its fields are strings:"
        return "\n".join([self.system.strip(), "", form, *fields])

    def messages(self, values: Mapping[str, str], pictures: Sequence[str] = ()) -> list[Message]:
        """Return the messages of a request.

        Args:
            values: Values of the placeholders. Braces in a value are not replaced.
            pictures: Data URLs of images, which precede the text in this order.
        """
        content: Any = PLACEHOLDER.sub(lambda found: values[found[1]], self.user).strip()
        if pictures:
            shown = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
            content = [*shown, {"type": "text", "text": content}]
        return [{"role": "system", "content": self.system_message}, {"role": "user", "content": content}]


def load_prompt(source: str | Path, known: Collection[str], answer: Collection[str]) -> Prompt:
    """Read a prompt and check it.

    Args:
        source: Path of a YAML file, or the name of a shipped prompt, such as `difference`.
        known: Placeholders that the step can fill.
        answer: Fields that the answer must have.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: Not YAML, a missing, unknown or wrongly typed key, an unknown placeholder, or other answer fields.
    """
    path = Path(source)
    if not path.suffix and len(path.parts) == 1:
        path = SHIPPED / f"{source}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
        raise FileNotFoundError(f"{source}: prompt not found; give the path of a YAML file, or one of {names}")
    prompt = read_yaml(Prompt, path, "prompt")
    prompt._name = path.stem
    if set(prompt.answer) != set(answer):
        found = ", ".join(prompt.answer)
        raise ValueError(f"{path}: `answer` must describe {' and '.join(answer)}, found {found}")
    if unknown := prompt.placeholders - set(known):
        fillable = ", ".join(f"{{{name}}}" for name in known)
        raise ValueError(f"{path}: `user` has the unknown placeholder {{{sorted(unknown)[0]}}}; use {fillable}")
    return prompt


class Requests:
    """Maker of the requests of a task, and reader of their answers.

    Args:
        step: Name of the step, for errors.
        options: Model, sampling and prompt.
        known: Placeholders that the step can fill.
        fields: Types of the answer's fields, such as `{"text": Text}`.
        picture_size: Maximum longer side of pictures in pixels. None for questions without pictures.

    Raises:
        FileNotFoundError: The prompt is missing.
        ValueError: An option or the prompt is invalid.
    """

    def __init__(
        self,
        step: str,
        options: ModelOptions,
        known: Collection[str],
        fields: Mapping[str, Any],
        picture_size: int | None = None,
    ) -> None:
        options.check(step)
        self._options, self._picture_size = options, picture_size or 0
        self.prompt = load_prompt(options.prompt, known, fields)
        described: Any = {name: (fields[name], Field(description=text)) for name, text in self.prompt.answer.items()}
        # The schema allows no other fields. If an answer has some, they are ignored.
        closed = ConfigDict(json_schema_extra={"additionalProperties": False})
        self.answer: type[BaseModel] = create_model("Answer", __config__=closed, **described)
        schema = {"name": "answer", "strict": True, "schema": self.answer.model_json_schema()}
        self._formats: dict[str, dict[str, Any]] = {
            "json_schema": {"response_format": {"type": "json_schema", "json_schema": schema}},
            "json_object": {"response_format": {"type": "json_object"}},
            "text": {},
        }
        sampling = {"temperature": options.temperature, "max_tokens": options.max_tokens, **options.extra}
        self._sampling = {name: value for name, value in sampling.items() if value is not None}
        self.settings: dict[str, Any] = {
            "model": options.model,
            "prompt": self.prompt.identity,
            "sampling": self._sampling,
            "picture_size": picture_size,
        }
        self.settings_digest = _digest(self.settings, 8)
        self._used = sorted(self.prompt.placeholders)

    def key(self, question: Question) -> str:
        """Return the key of a question: `<hash of the settings>-<hash of settings, row, texts and file names of images>`."""
        used = {name: question.values[name] for name in self._used}
        pictures = [picture.name for picture in question.pictures]
        return f"{self.settings_digest}-{_digest([self.settings_digest, question.row, used, pictures], 16)}"

    def messages(self, question: Question) -> list[Message]:
        """Return the messages of a question. Reads and shrinks its pictures.

        Raises:
            NoAnswerError: A text is not valid Unicode, or a picture cannot be read.
        """
        for text in (question.id, *question.values.values()):
            if SURROGATE.search(text):
                raise NoAnswerError("bad_text", f"half of a surrogate pair in {text[:200]!r}")
        try:
            pictures = [data_url(read_bytes(path), str(path), self._picture_size) for path in question.pictures]
        except UnreadableImageError as error:
            raise NoAnswerError("unreadable_image", str(error)) from error
        return self.prompt.messages(question.values, pictures)

    def estimate(self, question: Question) -> int:
        """Estimate the tokens of a question's messages without reading its pictures."""
        return estimate_tokens(self.prompt.messages(question.values, [""] * len(question.pictures)))

    def body(self, messages: Sequence[Message], answer_format: str) -> dict[str, Any]:
        """Return the body of a chat-completions request."""
        return {"model": self._options.model, "messages": messages, **self._sampling, **self._formats[answer_format]}

    def read(self, completion: Completion) -> dict[str, str]:
        """Return the fields of an answer.

        Raises:
            NoAnswerError: Fields are missing, an answer contains the API key, or the model was cut off or refused.
        """
        values = parse_reply(completion.text(), self.answer, lines=self._options.answer_format == "text")
        if self._options.repeats_key(values.values()):
            raise malformed("the answer contains the API key")
        return values


def estimate_tokens(messages: Sequence[Message]) -> int:
    """Estimate the tokens of a request: a quarter of its characters, and 85 for each picture."""
    characters = pictures = 0
    for message in messages:
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            characters += len(part.get("text", ""))
            pictures += part["type"] == "image_url"
    return characters // 4 + 85 * pictures


def _digest(value: Any, size: int) -> str:
    return hashlib.sha256(_ENCODER.encode(value).encode(errors="surrogatepass")).hexdigest()[: 2 * size]
