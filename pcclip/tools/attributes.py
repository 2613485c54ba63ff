"""Axes in words: pairs of opposite texts, given or read by name from a YAML file such as the shipped `attributes.yaml`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from pydantic import BaseModel

from pcclip.commands.shared_options import AxisOptions, VocabularyName
from pcclip.metrics.protocol import Wording
from pcclip.roles import has_roles, swap_roles
from pcclip.validation import read_yaml

_SHOWN = 8  # names in a message
SHIPPED = Path(str(resources.files("pcclip.tools") / "attributes.yaml"))


@dataclass(frozen=True)
class Attribute:
    """Named axis."""

    name: str
    more: str
    """Description of a picture with more of the attribute."""
    less: str
    """Description of a picture with less of the attribute."""
    wordings: list[Wording]


@dataclass(frozen=True)
class Explained:
    """A difference between two pictures, as the model sees it."""

    text: str
    """Text that fits better: a difference text, or a description of the first picture."""
    reverse: str
    """Opposite of `text`, or a description of the second picture."""
    margin: float
    """Cosine of the pictures' difference with the text minus that with the reverse, at least 0. The mean over wordings."""


class Words(BaseModel, extra="forbid"):
    """Words that fill the templates for one attribute."""

    more: str
    less: str
    world: bool = False
    """Whether the words are from the embedded world, the demo's drawn scenes."""


class AttributeFile(BaseModel, extra="forbid"):
    """Content of a file of attributes."""

    templates: list[str]
    """Sentences about two pictures, with `{more}` and `{less}`."""
    attributes: dict[str, Words]
    """Words of each attribute by name."""


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
        known = ", ".join(get_close_matches(name, content.attributes) or list(content.attributes)[:_SHOWN])
        raise ValueError(f'{file}: no attribute "{name}"; it has {known} and so on. Add it, or use --more and --less')
    return _filled(name, words.more, words.less, content.templates)


def vocabulary(of: VocabularyName = "photographs", file: str | Path | None = None) -> list[Attribute]:
    """Return the attributes that can explain a difference: all of a file, or the shipped ones of photographs or the world.

    Args:
        of: What the shipped attributes describe: photographs, or pictures of the embedded world.
        file: An `AttributeFile` in YAML.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: Invalid YAML, or a text that equals its reverse.
    """
    content = _read(file or SHIPPED)
    return [
        _filled(name, words.more, words.less, content.templates)
        for name, words in content.attributes.items()
        if file is not None or words.world == (of == "world")
    ]


def of_texts(texts: Mapping[str, str] | Sequence[str | Attribute]) -> list[Attribute]:
    """Return an attribute for each text and its reverse. In a list, the reverse has "first" and "second" exchanged.

    Raises:
        ValueError: No text, a text that is empty or equals its reverse, or one in a list that mentions neither image.
    """
    if not texts:
        raise ValueError("no texts given")
    found = []
    for text in texts:
        if isinstance(text, Attribute):
            found.append(text)
        else:
            reverse = texts[text] if isinstance(texts, Mapping) else swap_roles(text)
            found.append(Attribute("axis", text, reverse, wordings(text, reverse)))
    return found


def explained(axes: Sequence[Attribute], margins: Sequence[float]) -> list[Explained]:
    """Return the difference on each axis, largest margin first.

    Args:
        axes: The axes.
        margins: Margin of each axis. Negative if the second picture has more.
    """
    rows = [
        Explained(axis.more, axis.less, margin) if margin >= 0 else Explained(axis.less, axis.more, -margin)
        for axis, margin in zip(axes, margins, strict=True)
    ]
    return sorted(rows, key=lambda row: -row.margin)


def phrased(more: str, less: str) -> Attribute:
    """Return the axis of two texts.

    Texts that both say "first" or "second" are taken as they are. Others, such as "larger shapes" and "smaller shapes",
    fill the templates of pcclip's own file.

    Raises:
        ValueError: An empty text, or two equal texts.
    """
    given = wordings(more, less)
    more, less = given[0].text, given[0].reverse
    if has_roles(more) and has_roles(less):
        return Attribute("axis", more, less, given)
    return _filled("axis", more, less, _read(SHIPPED).templates)


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
    return read_yaml(AttributeFile, file, "attributes", "name a file with --attributes FILE")


def _filled(name: str, more: str, less: str, templates: Sequence[str]) -> Attribute:
    texts = [_fill(template, more, less) for template in templates]
    reverses = [_fill(template, less, more) for template in templates]
    return Attribute(name, more, less, wordings(texts, reverses))


def _fill(template: str, more: str, less: str) -> str:
    return template.replace("{more}", more).replace("{less}", less)
