"""Named axes: templates and the words that fill them, from a YAML file such as the shipped `attributes.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from pcclip.files import read_text
from pcclip.metrics.protocol import Wording

SHIPPED = Path(str(resources.files("pcclip.tools") / "attributes.yaml"))


@dataclass(frozen=True)
class Attribute:
    """An axis by name.

    Attributes:
        name: Its name.
        more: What pictures show that have more of it.
        less: What they show that have less.
        wordings: The sentences.
    """

    name: str
    more: str
    less: str
    wordings: list[Wording]


def read_attribute(name: str, file: str | Path = SHIPPED) -> Attribute:
    """Read one attribute of a file `{templates: [...], attributes: {name: {more: ..., less: ...}}}`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: Not YAML of that form, a template without `{more}` and `{less}`, or an unknown attribute.
    """
    try:
        content = yaml.safe_load(read_text(file, "attributes", "name a file with --attributes FILE"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not valid YAML ({error})") from error
    if not isinstance(content, dict) or set(content) != {"templates", "attributes"}:
        raise ValueError(f"{file}: expected `templates` and `attributes`")
    templates, known = content["templates"], content["attributes"]
    if not isinstance(templates, list) or not templates or not isinstance(known, dict):
        raise ValueError(f"{file}: expected a list of `templates`, and `attributes` by name")
    for template in templates:
        if not isinstance(template, str) or "{more}" not in template or "{less}" not in template:
            raise ValueError(f"{file}: template {template!r} must have {{more}} and {{less}}")
    if name not in known:
        raise ValueError(
            f'{file}: no attribute "{name}"; it has {", ".join(map(str, known))}. Add it, or use --more and --less'
        )
    more, less = _words(known[name], f"{file}: {name}")
    return Attribute(
        name, more, less, [Wording(_fill(template, more, less), _fill(template, less, more)) for template in templates]
    )


def wordings(more: str | Sequence[str], less: str | Sequence[str]) -> list[Wording]:
    """Pair texts with their reverses.

    Raises:
        ValueError: Not as many of one as of the other, an empty text, or one that equals its reverse.
    """
    mores = [more] if isinstance(more, str) else list(more)
    lesses = [less] if isinstance(less, str) else list(less)
    if len(mores) != len(lesses) or not mores:
        raise ValueError(f"{len(mores)} texts for more and {len(lesses)} for less; give each text its opposite")
    for text, reverse in zip(mores, lesses, strict=True):
        if not text.strip() or text.strip() == reverse.strip():
            raise ValueError(f"more {text!r} and less {reverse!r}: must be two different texts")
    return [Wording(text.strip(), reverse.strip()) for text, reverse in zip(mores, lesses, strict=True)]


def _words(row: Any, where: str) -> tuple[str, str]:
    if not isinstance(row, dict) or set(row) != {"more", "less"}:
        raise ValueError(f"{where}: expected `more` and `less`, found {row!r}")
    more, less = str(row["more"]).strip(), str(row["less"]).strip()
    if not more or not less or more == less:
        raise ValueError(f"{where}: `more` and `less` must be two different texts")
    return more, less


def _fill(template: str, more: str, less: str) -> str:
    return template.replace("{more}", more).replace("{less}", less)
