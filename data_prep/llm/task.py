"""What is asked of a language model, and the key by which an answer is known again."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from data_prep.files import SURROGATE, Row
from data_prep.images import read_bytes
from data_prep.llm.options import ModelOptions
from data_prep.llm.prompt import Message, Prompt
from data_prep.llm.replies import MalformedReplyError, read_answer
from pcclip.data.pictures import UnreadableImageError, decode

_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True)


@dataclass(frozen=True)
class Question:
    """One request's content.

    Attributes:
        id: Unique among the questions of a task.
        row: What the row with the answer begins with; it holds the id.
        values: What fills the prompt's template.
        pictures: Files of the images to show.
    """

    id: str
    row: Row
    values: Mapping[str, str]
    pictures: tuple[Path, ...] = ()


class Task(Protocol):
    """A stream of questions; it may be gone through several times and holds nothing that grows with their number.

    Attributes:
        id_key: Name of the id in a row.
        sampled: Whether the next run may ask other questions. Answers to questions that it does not ask are then kept.
        prompt: The prompt.
    """

    id_key: str
    sampled: bool
    prompt: Prompt

    def ids(self) -> Iterator[str]:
        """The ids of all questions, in order."""
        ...

    def questions(self, wanted: Iterable[bool]) -> Iterator[Question]:
        """The questions that are wanted, in order; one truth value for each of `ids`."""
        ...


class UnaskableError(ValueError):
    """A question that cannot be asked, with a reason in one word."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Requests:
    """Makes the requests of a task.

    Args:
        options: Model and sampling.
        prompt: The prompt.
        picture_size: Longer side that pictures are shrunk to, in pixels.
    """

    def __init__(self, options: ModelOptions, prompt: Prompt, picture_size: int | None = None) -> None:
        self._options = options
        self.prompt = prompt
        self.picture_size = picture_size
        self._sampling: dict[str, Any] = {
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
            **options.extra,
        }
        self._sampling = {name: value for name, value in self._sampling.items() if value is not None}
        self.model = options.model
        self.settings: dict[str, Any] = {
            "model": options.model,
            "prompt": {"name": prompt.name, "version": prompt.version, "sha256": prompt.digest},
            "sampling": self._sampling,
            "picture_size": picture_size,
        }
        self.settings_digest = _digest(self.settings, 8)

    def key(self, question: Question) -> str:
        """`<hash of the settings>-<hash of settings, id, captions and images>`."""
        used = {name: question.values[name] for name in sorted(self.prompt.placeholders)}
        pictures = [picture.name for picture in question.pictures]
        return f"{self.settings_digest}-{_digest([self.settings_digest, question.row, used, pictures], 16)}"

    def messages(self, question: Question) -> list[Message]:
        """The messages, with the pictures read and shrunk.

        Raises:
            UnaskableError: A text is not valid Unicode, or a picture is missing or does not decode.
        """
        for text in (question.id, *question.values.values()):
            if SURROGATE.search(text):
                raise UnaskableError("bad_text", f"half of a surrogate pair in {text[:200]!r}")
        size = self.picture_size or 0
        return self.prompt.messages(question.values, [data_url(path, size) for path in question.pictures])

    def body(self, messages: Sequence[Message], answer_format: str) -> dict[str, Any]:
        """The body of a chat-completions request."""
        body = {"model": self.model, "messages": messages, **self._sampling}
        response_format = self.prompt.response_format(answer_format)
        return body if response_format is None else {**body, "response_format": response_format}

    def read(self, response: Any) -> dict[str, str]:
        """Return the fields of an answer.

        Raises:
            MalformedReplyError: They cannot be found, or hold the endpoint's key.
            FailedAnswerError: The model was cut off, or refused.
        """
        values = read_answer(response, list(self.prompt.answer), lines=self._options.answer_format == "text")
        if self._options.repeats_key(values.values()):
            raise MalformedReplyError("the answer holds the endpoint's key")
        return values


def data_url(path: Path, size: int) -> str:
    """An image as a data URL, upright, in RGB, its longer side at most `size` pixels.

    Raises:
        UnaskableError: It is missing or does not decode.
    """
    try:
        upright = decode(read_bytes(path), str(path))
    except UnreadableImageError as error:
        raise UnaskableError("unreadable_image", str(error)) from error
    upright.thumbnail((size, size), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    upright.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def estimate_tokens(messages: Sequence[Message]) -> int:
    """Tokens of a request, estimated as a quarter of its characters and 85 for each picture."""
    characters = pictures = 0
    for message in messages:
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            characters += len(part.get("text", ""))
            pictures += part["type"] == "image_url"
    return characters // 4 + 85 * pictures


def _digest(value: Any, size: int) -> str:
    return hashlib.sha256(_ENCODER.encode(value).encode(errors="surrogatepass")).hexdigest()[: 2 * size]
