"""Run a tool command: parse its options, then call `run(options)` in the module of `pcclip.tools` with its name."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields

from jsonargparse import ArgumentParser, set_parsing_settings

from pcclip.command_line import ToolWarning, need, parse
from pcclip.commands import options
from pcclip.commands.shared_options import Options
from pcclip.lean_import import import_open_clip


def command_class(name: str) -> type[Options]:
    """Return the class of the options of a command: `Rank` for `rank`."""
    found: type[Options] = getattr(options, name.capitalize())
    return found


def tool_parser(name: str) -> ArgumentParser:
    """Return the parser of a command's options."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    kind = command_class(name)
    parser = ArgumentParser(prog=f"pcclip {name}", description=kind.__doc__, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file of options")
    for field, meaning in kind.positional.items():
        parser.add_argument(field, nargs="+", type=str, help=meaning)
    for field, meaning in kind.several.items():
        parser.add_argument(f"--{field}", nargs="+", type=str, default=[], help=meaning)
    parser.add_class_arguments(kind, skip={*kind.positional, *kind.several})
    return parser


def run_tool(name: str, words: Sequence[str]) -> None:
    """Parse a command line and run the command.

    Raises:
        ValueError: Wrong or contradictory options, wrong input, or an optional package that is not installed.
        OSError: A file is missing, or cannot be written.
    """
    parser = tool_parser(name)
    if any("${" in word or word.startswith("--config") for word in words):
        parser.parser_mode = "omegaconf+"  # takes 0.1 s to import
    found = parse(parser, words)
    kind = command_class(name)
    for package, extra in kind.packages.items():
        need(package, extra)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other packages' warnings are not for the user of a tool
        warnings.filterwarnings("always", category=ToolWarning)
        warnings.showwarning = lambda message, *_: print(f"pcclip {name}: warning: {message}", file=sys.stderr)
        if kind is not options.Report:  # the only command without a model
            import_open_clip()
        tool = importlib.import_module(f"pcclip.tools.{name}")
        tool.run(kind(**{field.name: found[field.name] for field in fields(kind)}))
