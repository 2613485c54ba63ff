"""Named axes: templates and the words that fill them, from a YAML file such as the shipped `attributes.yaml`."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jsonargparse import ArgumentError, ArgumentParser

from pcclip.metrics.protocol import Wording
from pcclip.paths import read_text

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


@dataclass
class Words:
    """What an attribute's templates are filled with."""

    more: str
    less: str


@dataclass
class AttributeFile:
    """The content of a file of attributes."""

    templates: list[str]
    """Sentences on two pictures with `{more}` and `{less}`."""
    attributes: dict[str, Words]
    """Words by the name of the attribute."""


def read_attribute(name: str, file: str | Path = SHIPPED) -> Attribute:
    """Read one attribute of an `AttributeFile` in YAML.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: Not YAML of that form, a text that equals its reverse, or an unknown attribute.
    """
    text = read_text(file, "attributes", "name a file with --attributes FILE")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(AttributeFile)
    try:
        content = parser.instantiate_classes(parser.parse_string(text))
    except ArgumentError as error:
        raise ValueError(f"{file}: {error}") from error
    words = content.attributes.get(name)
    if words is None:
        known = ", ".join(content.attributes)
        raise ValueError(f'{file}: no attribute "{name}"; it has {known}. Add it, or use --more and --less')
    texts = [_fill(template, words.more, words.less) for template in content.templates]
    reverses = [_fill(template, words.less, words.more) for template in content.templates]
    return Attribute(name, words.more, words.less, wordings(texts, reverses))


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


def _fill(template: str, more: str, less: str) -> str:
    return template.replace("{more}", more).replace("{less}", less)
