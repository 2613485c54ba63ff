"""What the tool commands share: options for models, pictures and output, and how a command is run.

The modules of this package do not postpone annotations: to resolve postponed ones, jsonargparse would execute
the imports under TYPE_CHECKING, torch among them.
"""

import importlib
import os
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from jsonargparse import ArgumentParser, set_parsing_settings
from jsonargparse.typing import PositiveInt

from pcclip.command_line import parse

if TYPE_CHECKING:
    from pcclip.data.labelled import Picture
    from pcclip.tools.gallery import Gallery
    from pcclip.tools.inference import InferenceModel

DEMO = "runs/demo/finetuned"
SHOWN = 10  # unreadable pictures that are named on the terminal


def default_cache() -> str:
    """Return `$XDG_CACHE_HOME/pcclip`, by default `~/.cache/pcclip`."""
    return str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pcclip")


@dataclass(kw_only=True)
class Command(ABC):
    """A command. Its docstring is the help, and its fields are the options."""

    positional: ClassVar[dict[str, str]] = {}
    """Name and help of the field that takes all words of the command line that belong to no option."""

    @abstractmethod
    def run(self) -> None:
        """Do what the command is for.

        Raises:
            ValueError: Options that contradict each other, or an input that is wrong.
            OSError: A file is missing, or cannot be written.
        """


def command_class(name: str) -> type[Command]:
    """Return the command of a name: class `Rank` of module `rank`."""
    found: type[Command] = getattr(importlib.import_module(f"pcclip.commands.{name}"), name.capitalize())
    return found


def tool_parser(name: str) -> ArgumentParser:
    """Return the parser of a command's options."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    command = command_class(name)
    parser = ArgumentParser(prog=f"pcclip {name}", description=command.__doc__, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file of options")
    for field_name, meaning in command.positional.items():
        parser.add_argument(field_name, nargs="+", type=str, help=meaning)
    parser.add_class_arguments(command, skip={*command.positional})
    return parser


def run_tool(name: str, words: Sequence[str]) -> None:
    """Parse a command line and run the command; raises as `parse` and `Command.run` do."""
    parser = tool_parser(name)
    if any("${" in word or word.startswith("--config") for word in words):
        parser.parser_mode = "omegaconf+"  # a tenth of a second to import
    options = parse(parser, words)
    from pcclip.tools.output import ToolWarning

    command = command_class(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other packages' warnings are not for the user of a tool
        warnings.filterwarnings("always", category=ToolWarning)
        warnings.showwarning = lambda message, *_: print(f"pcclip {name}: warning: {message}", file=sys.stderr)
        command(**{each.name: options[each.name] for each in fields(command)}).run()


@dataclass(kw_only=True)
class ModelCommand(Command):
    """A command that uses a model."""

    model: str = DEMO
    """A saved folder, a checkpoint (.ckpt), or an open_clip name with `--pretrained`."""
    pretrained: str | None = None
    """Pretrained tag of open_clip, or a weights file."""
    device: str = "auto"
    """cpu, cuda, ...; auto takes a GPU if there is one."""

    def load_model(self) -> "InferenceModel":
        """Return the model that the options name."""
        from pcclip import load
        from pcclip.lean_import import import_open_clip

        import_open_clip()
        return load(self.model, self.pretrained, self.device)


@dataclass(kw_only=True)
class EmbeddingCommand(ModelCommand):
    """A command that embeds pictures."""

    positional: ClassVar[dict[str, str]] = {
        "pictures": "folders, patterns, lists (.txt, .csv, - for standard input), webdataset shards, pictures"
    }

    pictures: list[str]
    cache: str | None = field(default_factory=default_cache)
    """Folder in which embeddings are kept; null keeps none."""
    batch_size: PositiveInt = 256
    """Pictures encoded at a time."""
    workers: int | None = None
    """Processes that decode; by default as many as there are spare cores, up to eight."""

    def embed(self, model: "InferenceModel", pictures: "Sequence[Picture]") -> "Gallery":
        """Embed pictures as the options say, and name those that cannot be read."""
        gallery = model.embed_pictures(
            pictures, cache=self.cache, batch_size=self.batch_size, workers=self.workers, progress=True
        )
        for key, reason in list(gallery.unreadable.items())[:SHOWN]:
            print(f"unreadable: {key}: {reason}", file=sys.stderr)
        if (more := len(gallery.unreadable) - SHOWN) > 0:
            print(f"... and {more} more", file=sys.stderr)
        return gallery


@dataclass(kw_only=True)
class PictureCommand(EmbeddingCommand):
    """A command that writes a table of pictures, with a sheet."""

    output: str
    """CSV file; the sheet is next to it as .png."""
    overwrite: bool = False
    """Replace output that exists."""

    def new_output(self) -> Path:
        """Return the CSV file, after checking that it and what goes next to it can be written."""
        from pcclip.tools.output import FURTHER, new_file

        return new_file(self.output, ".csv", self.overwrite, FURTHER)
