"""Options that several tool commands have.

Annotations are not postponed: to resolve postponed ones, jsonargparse would import torch.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from jsonargparse.typing import PositiveInt

DEMO = "runs/demo/finetuned"
VocabularyName = Literal["photographs", "world"]


def default_cache() -> str:
    """Return `$XDG_CACHE_HOME/pcclip`, by default `~/.cache/pcclip`."""
    return str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pcclip")


@dataclass(kw_only=True)
class Options:
    """Options of a command."""

    positional: ClassVar[dict[str, str]] = {}
    """Field that takes all positional arguments, and its help."""
    several: ClassVar[dict[str, str]] = {}
    """Optional fields that take one or more arguments, and their help."""
    packages: ClassVar[dict[str, str]] = {}
    """Optional packages that the command imports, and the extra that installs each."""


@dataclass(kw_only=True)
class ModelOptions(Options):
    """Options that name a model."""

    model: str = DEMO
    """Saved folder, checkpoint (.ckpt), folder of adapters, `hf-hub:USER/NAME`, or open_clip name with `--pretrained`."""
    pretrained: str | None = None
    """Pretrained tag of open_clip, or weights file."""
    device: str = "auto"
    """cpu, cuda, ...; auto uses a GPU if there is one."""


@dataclass(kw_only=True)
class EmbeddingOptions(ModelOptions):
    """Options of commands that embed pictures."""

    positional: ClassVar[dict[str, str]] = {
        "pictures": "folders, patterns, lists (.txt, .csv, - for standard input), webdataset shards, pictures, .npy"
    }

    pictures: list[str]
    cache: str | None = field(default_factory=default_cache)
    """Folder for cached embeddings; null disables the cache."""
    batch_size: PositiveInt = 256
    """Pictures in a batch."""
    workers: int | None = None
    """Processes that decode pictures; by default one for each spare core, at most eight."""


@dataclass(kw_only=True)
class OutputOptions(Options):
    """Options of commands that write files."""

    output: str
    overwrite: bool = False
    """Replace existing output."""


@dataclass(kw_only=True)
class PictureOptions(EmbeddingOptions, OutputOptions):
    """Options of commands that write a table of pictures and a contact sheet."""

    output: str
    """CSV file. The contact sheet has the same name with .png."""


@dataclass(kw_only=True)
class SheetOptions(PictureOptions):
    """Options of commands that order pictures."""

    sheet: PositiveInt = 60
    """Pictures on the contact sheet, at equal distances in the order of the table."""


@dataclass(kw_only=True)
class AxisOptions(Options):
    """Options that name an axis: two texts, or an attribute."""

    more: str | list[str] = ""
    """Text that is true of (first, second) if the first picture has more. Several, as [TEXT, TEXT], are averaged."""
    less: str | list[str] = ""
    """Opposite text; one for each of `--more`."""
    attribute: str | list[str] | None = None
    """Name of an attribute, such as size, instead of `--more` and `--less`."""
    attributes: str | None = None
    """YAML file of attributes; by default the shipped one."""
