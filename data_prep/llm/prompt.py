"""Prompts: versioned YAML files, and the requests made from them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

Message = dict[str, Any]

PLACEHOLDER = re.compile(r"\{(\w+)\}")
SHIPPED = Path(str(resources.files("data_prep") / "prompts"))


class Prompt(BaseModel):
    """What a prompt's YAML file holds."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int
    """To be raised with each change of wording."""
    system: str
    """The system message."""
    user: str
    """Template of the user message."""
    answer: dict[str, str]
    """What each field of the answer holds, by its name."""
    _name: str = ""

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self._name}@{self.version}"

    @property
    def identity(self) -> dict[str, Any]:
        """Name, version and a hash of the wording, so that a change without a new version is noticed too."""
        text = json.dumps([self.system, self.user, self.answer], ensure_ascii=False)
        return {"name": self._name, "version": self.version, "sha256": hashlib.sha256(text.encode()).hexdigest()[:16]}

    @property
    def placeholders(self) -> set[str]:
        """Names of what the template is filled with."""
        return set(PLACEHOLDER.findall(self.user))

    @cached_property
    def system_message(self) -> str:
        """The system message with the fields of the answer.

        They are named in words whatever the answer's format: not every endpoint shows the model the schema that it enforces,
        and `json_object` and plain text have none.
        """
        fields = [f'"{name}": {meaning}' for name, meaning in self.answer.items()]
        form = "Answer with one JSON object and nothing else. Its fields are strings:"
        return "\n".join([self.system.strip(), "", form, *fields])

    def messages(self, values: Mapping[str, str], pictures: Sequence[str] = ()) -> list[Message]:
        """Return the messages of a request.

        Args:
            values: What to fill the template with; braces in a value stay as they are.
            pictures: Data URLs of images, shown in this order before the text.
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
        known: Placeholders that can be filled.
        answer: The fields that the answer must have.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: Not YAML, a missing, unknown or ill-typed key, an unknown placeholder, or other fields than `answer`.
    """
    path = Path(source)
    if not path.suffix and len(path.parts) == 1:
        path = SHIPPED / f"{source}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
        raise FileNotFoundError(f"{source}: prompt not found; give the path of a YAML file, or one of {names}")
    try:
        prompt = Prompt.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML ({error})") from error
    except ValidationError as error:
        keys = ", ".join(Prompt.model_fields)
        raise ValueError(f"{path}: not a prompt with the keys {keys} ({explained(error)})") from error
    prompt._name = path.stem
    if set(prompt.answer) != set(answer):
        found = ", ".join(prompt.answer)
        raise ValueError(f"{path}: `answer` must describe {' and '.join(answer)} in words, found {found}")
    if unknown := prompt.placeholders - set(known):
        fillable = ", ".join(f"{{{name}}}" for name in known)
        raise ValueError(f"{path}: `user` holds {{{sorted(unknown)[0]}}}, but what can be filled in is {fillable}")
    return prompt


def explained(error: ValidationError) -> str:
    """Return the first fault that pydantic found, in one line."""
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}, found {str(found['input'])[:200]!r}"
