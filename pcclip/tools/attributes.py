"""Axes in words: pairs of opposite texts, given or read by name from a YAML file such as the shipped `attributes.yaml`."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jsonargparse import ArgumentError, ArgumentParser

from pcclip.commands.options import AxisOptions
from pcclip.metrics.protocol import Wording
from pcclip.paths import read_text
from pcclip.roles import has_roles

SHIPPED = Path(str(resources.files("pcclip.tools") / "attributes.yaml"))


@dataclass(frozen=True)
class Attribute:
    """Axis with a name."""

    name: str
    more: str
    """What a picture with more of it shows."""
    less: str
    """What a picture with less of it shows."""
    wordings: list[Wording]


@dataclass
class Words:
    """Words that fill the templates for one attribute."""

    more: str
    less: str


@dataclass
class AttributeFile:
    """Content of a file of attributes."""

    templates: list[str]
    """Sentences about two pictures, with `{more}` and `{less}`."""
    attributes: dict[str, Words]
    """Name of each attribute to its words."""


def axes_of(options: AxisOptions) -> list[Attribute]:
    """Return the attributes that the options name, or one attribute made of their two texts.

    Raises:
        FileNotFoundError: The file of attributes does not exist.
        ValueError: Both or neither are given, or as `wordings` and `read_attribute`.
    """
    if bool(options.more or options.less) == bool(options.attribute):
        raise ValueError("give either --more and --less, or --attribute")
    if not options.attribute:
        return [Attribute("axis", "more", "less", wordings(options.more or [], options.less or []))]
    names = [options.attribute] if isinstance(options.attribute, str) else options.attribute
    return [read_attribute(name, options.attributes or SHIPPED) for name in dict.fromkeys(names)]


def read_attribute(name: str, file: str | Path = SHIPPED) -> Attribute:
    """Read one attribute of an `AttributeFile` in YAML.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: Invalid YAML, a text that equals its reverse, or an unknown attribute.
    """
    content = _read(file)
    words = content.attributes.get(name)
    if words is None:
        known = ", ".join(content.attributes)
        raise ValueError(f'{file}: no attribute "{name}"; it has {known}. Add it, or use --more and --less')
    return _filled(name, words.more, words.less, content.templates)


def phrased(more: str, less: str, file: str | Path = SHIPPED) -> Attribute:
    """Return the axis of two texts.

    Texts that both say "first" or "second" are taken as they are. Others, such as "larger shapes" and "smaller shapes",
    fill the templates of an `AttributeFile`.

    Raises:
        ValueError: An empty text, two equal texts, or as `read_attribute` raises it.
    """
    given = wordings(more, less)
    more, less = given[0].text, given[0].reverse
    if has_roles(more) and has_roles(less):
        return Attribute("axis", more, less, given)
    return _filled("axis", more, less, _read(file).templates)


def wordings(more: str | Sequence[str], less: str | Sequence[str]) -> list[Wording]:
    """Pair each text with its opposite.

    Raises:
        ValueError: The numbers of texts differ, or a text is empty or equals its opposite.
    """
    mores = [more] if isinstance(more, str) else list(more)
    lesses = [less] if isinstance(less, str) else list(less)
    if len(mores) != len(lesses) or not mores:
        raise ValueError(f"{len(mores)} texts for more and {len(lesses)} for less; give each text its opposite")
    for text, reverse in zip(mores, lesses, strict=True):
        if not text.strip() or not reverse.strip() or text.strip() == reverse.strip():
            raise ValueError(f"more {text!r} and less {reverse!r}: must be two different texts")
    return [Wording(text.strip(), reverse.strip()) for text, reverse in zip(mores, lesses, strict=True)]


def _read(file: str | Path) -> AttributeFile:
    text = read_text(file, "attributes", "name a file with --attributes FILE")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(AttributeFile)
    try:
        return AttributeFile(**vars(parser.instantiate_classes(parser.parse_string(text))))
    except ArgumentError as error:
        raise ValueError(f"{file}: {error}") from error


def _filled(name: str, more: str, less: str, templates: Sequence[str]) -> Attribute:
    texts = [_fill(template, more, less) for template in templates]
    reverses = [_fill(template, less, more) for template in templates]
    return Attribute(name, more, less, wordings(texts, reverses))


def _fill(template: str, more: str, less: str) -> str:
    return template.replace("{more}", more).replace("{less}", less)
