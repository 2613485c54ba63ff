"""Prompts: versioned YAML files, and the requests made from them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

Message = dict[str, Any]
Fields = Mapping[str, Any]
"""The fields of an answer and their types, such as `{"text": Text}`."""

PLACEHOLDER = re.compile(r"\{(\w+)\}")
SHIPPED = Path(str(resources.files("data_prep") / "prompts"))


class PromptFile(BaseModel):
    """What a prompt's YAML file holds."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int  # to be raised with each change of wording
    system: str  # the system message
    user: str  # template of the user message
    answer: dict[str, str]  # what each field of the answer holds, by its name


class Prompt:
    """A prompt and the form of its answer.

    Args:
        name: The file's name without its suffix.
        file: The file's content.
        fields: Types of the answer's fields.
    """

    def __init__(self, name: str, file: PromptFile, fields: Fields) -> None:
        self.name, self._file = name, file
        self.label = f"{name}@{file.version}"
        self.placeholders = set(PLACEHOLDER.findall(file.user))
        described: dict[str, Any] = {key: (fields[key], Field(description=text)) for key, text in file.answer.items()}
        closed = ConfigDict(
            json_schema_extra={"additionalProperties": False}
        )  # in the schema; further fields are ignored
        self.answer: type[BaseModel] = create_model("Answer", __config__=closed, **described)
        self._schema = self.answer.model_json_schema()

    @property
    def identity(self) -> dict[str, Any]:
        """Name, version and a hash of the wording, so that a change without a new version is noticed too."""
        text = json.dumps([self._file.system, self._file.user, self._file.answer], ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return {"name": self.name, "version": self._file.version, "sha256": digest}

    def messages(self, values: Mapping[str, str], pictures: Sequence[str] = ()) -> list[Message]:
        """Return the messages of a request.

        The fields of the answer are named in words whatever the answer's format: not every endpoint shows the model the
        schema that it enforces, and `json_object` and plain text have none.

        Args:
            values: What to fill the template with; braces in a value stay as they are.
            pictures: Data URLs of images, shown in this order before the text.
        """
        fields = [f'"{name}": {meaning}' for name, meaning in self._file.answer.items()]
        form = "Answer with one JSON object and nothing else. Its fields are strings:"
        system = "\n".join([self._file.system.strip(), "", form, *fields])
        content: Any = PLACEHOLDER.sub(lambda found: values[found[1]], self._file.user).strip()
        if pictures:
            shown = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
            content = [*shown, {"type": "text", "text": content}]
        return [{"role": "system", "content": system}, {"role": "user", "content": content}]

    def response_format(self, answer_format: str) -> Message | None:
        """Return the request's `response_format`: for `json_schema`, `json_object`, or None for `text`."""
        if answer_format == "text":
            return None
        if answer_format == "json_object":
            return {"type": "json_object"}
        return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": self._schema}}


def load_prompt(source: str | Path, known: Collection[str], fields: Fields) -> Prompt:
    """Read a prompt and check it.

    Args:
        source: Path of a YAML file, or the name of a shipped prompt, such as `difference`.
        known: Placeholders that can be filled.
        fields: The fields that the answer must have, and their types.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: Not YAML, a missing, unknown or ill-typed key, an unknown placeholder, or other fields than `fields`.
    """
    path = Path(source)
    if not path.suffix and len(path.parts) == 1:
        path = SHIPPED / f"{source}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
        raise FileNotFoundError(f"{source}: prompt not found; give the path of a YAML file, or one of {names}")
    try:
        content = PromptFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML ({error})") from error
    except ValidationError as error:
        keys = ", ".join(PromptFile.model_fields)
        raise ValueError(f"{path}: not a prompt with the keys {keys} ({explained(error)})") from error
    if set(content.answer) != set(fields):
        raise ValueError(
            f"{path}: `answer` must describe {' and '.join(fields)} in words, found {', '.join(content.answer)}"
        )
    prompt = Prompt(path.stem, content, fields)
    if unknown := prompt.placeholders - set(known):
        fillable = ", ".join(f"{{{name}}}" for name in known)
        raise ValueError(f"{path}: `user` holds {{{sorted(unknown)[0]}}}, but what can be filled in is {fillable}")
    return prompt


def explained(error: ValidationError) -> str:
    """Return the first fault that pydantic found, in one line."""
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}, found {str(found['input'])[:200]!r}"
