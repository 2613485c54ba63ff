"""Reader of attribute texts: the difference texts and ordinary prompts of attributes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from pcclip.metrics.protocol import Wording
from pcclip.paths import existing_file
from pcclip.validation import explain

Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


@dataclass(frozen=True)
class AttributeTexts:
    """The texts of one attribute."""

    wordings: list[Wording]
    """Difference texts: `text` is true if the first image has more of the attribute, `reverse` if it has less."""
    prompts: list[Wording]
    """Ordinary prompts: `text` describes an image with more of it, `reverse` an image with less. It may be empty."""
    stored: list[Wording] = field(default_factory=list)
    """Opposite texts among those with a stored embedding. It may be empty."""


def read_texts(file: str | Path) -> dict[str, AttributeTexts]:
    """Read attribute texts from YAML.

    An attribute has `{wordings: [{text, reverse}, ...], prompts: [{more, less}, ...], stored: [{more, less}, ...]}`, or only
    the list of wordings. For many attributes of one kind, `phrases` fill placeholders in `templates: {wordings, prompts}`:

    - `attribute: phrase`: the phrase replaces `{}`;
    - `group: {phrase, values}`: attributes `group::value`. The value replaces `{}` in the phrase, with spaces for underscores.
      `values` is a list, or maps values to words;
    - `attribute: {pairs: [[phrase, other], ...], prompts, stored}`: each wording uses the next pair for `{}` and `{other}`, and
      begins with a capital letter.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The YAML has another form; or a text is empty, equal to its reverse, or given twice.
    """
    existing_file(file, "attribute texts")
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        return dict(_File.model_validate(content).attributes())
    except ValidationError as error:
        raise ValueError(f"{file}: {explain(error)}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Prompt(_Model):
    more: Sentence
    less: Sentence


class _Wording(_Model):
    text: Sentence
    reverse: Sentence


class _Texts(_Model):
    wordings: list[_Wording] = Field(min_length=1)
    prompts: list[_Prompt] = []
    stored: list[_Prompt] = []

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"wordings": value} if isinstance(value, list) else value

    def checked(self, attribute: str) -> AttributeTexts:
        wordings = [Wording(row.text, row.reverse) for row in self.wordings]
        prompts, stored = ([Wording(row.more, row.less) for row in rows] for rows in (self.prompts, self.stored))
        for row in (*wordings, *prompts, *stored):
            if row.text == row.reverse:
                raise ValueError(f'{attribute}: "{row.text}" is its own reverse; the reverse must say the opposite')
            if wordings.count(row) + prompts.count(row) > 1 or stored.count(row) > 1:
                raise ValueError(f'{attribute}: "{row.text}" is given twice; remove one')
        return AttributeTexts(wordings, prompts, stored)

    def filled(self, places: dict[str, str]) -> _Texts:
        return _Texts.model_validate(_fill(self.model_dump(), places))


class _Values(_Model):
    phrase: str
    values: list[str] | dict[str, str]


class _Pairs(_Model):
    pairs: list[tuple[str, str]] = Field(min_length=1)
    prompts: list[_Prompt] = []
    stored: list[_Prompt] = []


class _File(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _Texts]
    templates: _Texts | None = None
    phrases: dict[str, str | _Values | _Pairs] = {}

    @model_validator(mode="after")
    def _goes_together(self) -> _File:
        if (self.templates is None) != (not self.phrases):
            raise ValueError("`templates` (with wordings) and `phrases` (attribute: phrase) go together; give both")
        if self.templates is None and not self.__pydantic_extra__:
            raise ValueError("no attribute; give wordings of one, e.g. `size: [{text: ..., reverse: ...}]`")
        rows = self.templates.model_dump() if self.templates is not None else {}
        for row in (row for part in rows.values() for row in part):
            if "{}" not in "".join(row.values()):
                raise ValueError(f"the template {' / '.join(row.values())} has no {{}} for the phrase")
        if both := sorted(set(self.phrases) & set(self.__pydantic_extra__)):
            raise ValueError(f"{both} have texts of their own and a phrase; remove one")
        return self

    def attributes(self) -> Iterator[tuple[str, AttributeTexts]]:
        for attribute, texts in self.__pydantic_extra__.items():
            yield attribute, texts.checked(attribute)
        if self.templates is None:
            return
        for attribute, phrase in self.phrases.items():
            if isinstance(phrase, str):
                yield attribute, self.templates.filled({"{}": phrase}).checked(attribute)
            elif isinstance(phrase, _Values):
                words = (
                    phrase.values
                    if isinstance(phrase.values, dict)
                    else {v: v.replace("_", " ") for v in phrase.values}
                )
                for value, said in words.items():
                    places = {"{}": phrase.phrase.replace("{}", said)}
                    yield f"{attribute}::{value}", self.templates.filled(places).checked(f"{attribute}::{value}")
            else:
                yield attribute, self._paired(self.templates, phrase).checked(attribute)

    @staticmethod
    def _paired(templates: _Texts, phrase: _Pairs) -> _Texts:
        wordings = []
        for number, wording in enumerate(templates.wordings):
            one, other = phrase.pairs[number % len(phrase.pairs)]
            texts = _fill(wording.model_dump(), {"{}": one, "{other}": other})
            wordings.append({part: text[:1].upper() + text[1:] for part, text in texts.items()})
        return _Texts.model_validate({"wordings": wordings, **phrase.model_dump(include={"prompts", "stored"})})


def _fill(part: Any, places: dict[str, str]) -> Any:
    """Replace placeholders in all texts of nested dicts and lists."""
    if isinstance(part, dict):
        return {key: _fill(value, places) for key, value in part.items()}
    if isinstance(part, list):
        return [_fill(value, places) for value in part]
    for place, words in places.items():
        part = part.replace(place, words)
    return part
