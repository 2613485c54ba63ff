"""Prompts: versioned YAML files, and the requests made from them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

Message = dict[str, Any]

PLACEHOLDER = re.compile(r"\{(\w+)\}")
SHIPPED = Path(str(resources.files("data_prep") / "prompts"))


@dataclass(frozen=True)
class Prompt:
    """A prompt.

    Attributes:
        name: The file's name without its ending.
        version: To be raised with each change of wording.
        system: The system message.
        user: Template of the user message.
        answer: What each field of the answer holds, by its name.
    """

    name: str
    version: int
    system: str
    user: str
    answer: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Hash of the wording, so that a change without a new version is noticed too."""
        text = json.dumps([self.system, self.user, dict(self.answer)], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def placeholders(self) -> set[str]:
        """Names of what the template is filled with."""
        return set(PLACEHOLDER.findall(self.user))

    def messages(self, values: Mapping[str, str], pictures: Sequence[str] = ()) -> list[Message]:
        """The messages of a request.

        The fields of the answer are named in words whatever the answer's format: not every endpoint shows the model the
        schema that it enforces, and `json_object` and plain text have none.

        Args:
            values: What to fill the template with; braces in a value stay as they are.
            pictures: Data URLs of images, shown in this order before the text.
        """
        fields = "\n".join(f'"{name}": {meaning}' for name, meaning in self.answer.items())
        system = (
            f"{self.system.strip()}\n\nAnswer with one JSON object and nothing else. Its fields are strings:\n{fields}"
        )
        text = PLACEHOLDER.sub(lambda found: values[found[1]], self.user).strip()
        if not pictures:
            return [{"role": "system", "content": system}, {"role": "user", "content": text}]
        parts: list[Message] = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
        return [
            {"role": "system", "content": system},
            {"role": "user", "content": [*parts, {"type": "text", "text": text}]},
        ]

    def response_format(self, answer_format: str) -> Message | None:
        """The request's `response_format`: for `json_schema`, `json_object`, or None for `text`."""
        if answer_format == "text":
            return None
        if answer_format == "json_object":
            return {"type": "json_object"}
        schema = {
            "type": "object",
            "properties": {name: {"type": "string", "description": text} for name, text in self.answer.items()},
            "required": list(self.answer),
            "additionalProperties": False,
        }
        return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


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
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML ({error})") from error
    kinds = {"version": int, "system": str, "user": str, "answer": dict}
    if not isinstance(found, dict) or set(found) != set(kinds):
        keys = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{path}: a prompt has the keys {', '.join(kinds)}; found {keys}")
    for key, kind in kinds.items():
        if not isinstance(found[key], kind):
            raise ValueError(f"{path}: `{key}` must be a {kind.__name__}, found {found[key]!r}")
    if set(found["answer"]) != set(answer) or not all(isinstance(text, str) for text in found["answer"].values()):
        raise ValueError(
            f"{path}: `answer` must describe {' and '.join(answer)} in words, found {', '.join(map(str, found['answer']))}"
        )
    prompt = Prompt(path.stem, found["version"], found["system"], found["user"], found["answer"])
    if unknown := prompt.placeholders - set(known):
        raise ValueError(
            f"{path}: `user` holds {{{sorted(unknown)[0]}}}, but what can be filled in is "
            + ", ".join(f"{{{name}}}" for name in known)
        )
    return prompt
