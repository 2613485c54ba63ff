"""The `pcclip` command: `fit`, `validate`, `test` and `predict` are a LightningCLI, the others are tools for trained models.

Nothing heavy is imported before it is known what is asked for, so that `pcclip --help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn, Protocol, cast

from pcclip import __version__
from pcclip.tools.output import ToolWarning

TRAINING = {
    "fit": "train by a configuration",
    "validate": "losses on held-out pairs",
    "test": "the evaluation of a configuration, on a checkpoint",
    "predict": "cosine of each held-out pair's difference with its text, in a file",
}
TOOLS = {
    "rank": "rank, pair or classify pictures along an axis given in words",
    "search": "find pictures like one, but different as a text says",
    "prompt": "sort pictures into classes, with texts on how the classes differ",
    "ensemble": "blend a base and a finetuned model, or sweep and measure the blends",
    "export": "save for open_clip or Hugging Face, with a model card",
    "generate": "text-to-image along a difference (extra `generation`)",
    "report": "one HTML page of the results of runs",
    "demo": "a page to try a model on a folder of pictures (extra `demo`)",
}


class ToolModule(Protocol):
    """What a module in `pcclip.tools.commands` offers; importing it must be cheap."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Say what the command takes."""
        ...

    def run(self, options: argparse.Namespace) -> None:
        """Do it."""
        ...


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, that of the process by default.

    Returns:
        The exit code: 0; 2 after an error that the user can fix; 130 after Ctrl-C. Training exits by itself after signals.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words and words[0] in TOOLS:
        return _run_tool(words[0], words[1:])
    if words and words[0] in TRAINING:
        from pcclip.training_cli import main as train

        return train(words[0], words[1:])
    _overview().parse_args(words)  # help, version, or an error
    return 0


def tool_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one tool."""
    tool = _tool(name)
    parser = OneLineParser(
        prog=f"pcclip {name}", description=tool.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tool.add_arguments(parser)
    return parser


def _overview() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="pcclip", description="Train CLIP on pairwise differences, and use what was trained.")
    parser.add_argument("--version", action="version", version=f"pcclip {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands (COMMAND --help says more)")
    for name, purpose in (TRAINING | TOOLS).items():
        commands.add_parser(name, help=purpose)
    return parser


def _tool(name: str) -> ToolModule:
    return cast(ToolModule, importlib.import_module(f"pcclip.tools.commands.{name}"))


def _run_tool(name: str, words: Sequence[str]) -> int:
    options = tool_parser(name).parse_args(words)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other packages' warnings are not for the user of a tool
        warnings.filterwarnings("always", category=ToolWarning)
        warnings.showwarning = lambda message, *_: print(f"pcclip {name}: warning: {message}", file=sys.stderr)
        try:
            _tool(name).run(options)
        except (ValueError, OSError) as error:
            print(f"pcclip {name}: error: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"pcclip {name}: interrupted", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
