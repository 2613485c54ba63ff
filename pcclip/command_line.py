"""Run a command: parse its options, print its errors in one line, return its exit code."""

import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import ArgumentError, ArgumentParser, Namespace

_SOURCES = (Path(__file__).parent, Path(__file__).parents[1] / "data_prep")
_WORKER = re.compile(r"Caught \w+ in DataLoader worker")  # how torch re-raises a worker's error
_FRAME = re.compile(r'^  File "(.+?)", line', re.MULTILINE)


class ToolWarning(UserWarning):
    """Warning for the user of a tool command."""


def need(package: str, extra: str) -> None:
    """Check that an optional package is installed.

    Raises:
        ValueError: It is not. Names the extra that installs it.
    """
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{package} is not installed; run pip install '.[{extra}]' in pcclip's folder")


def parse(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    """Parse a command line. The parser must have `exit_on_error=False`.

    Raises:
        ValueError: An unknown option, a missing or wrong value, or `${...}` that names no option.
    """
    try:
        return parser.parse_args(list(words))
    except _parser_errors() as error:
        raise ValueError(f"{error} (see {parser.prog} --help)") from error


def run(name: str, action: Callable[[], None]) -> int:
    """Run a command, and print expected errors in one line.

    Expected are OSErrors, and ValueErrors that this project raises itself. All others are bugs and keep their traceback.

    Returns:
        The exit code: 0; 2 after an expected error; 130 after Ctrl-C.
    """
    try:
        action()
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and not raised_here(error):
            raise
        rank = _rank()
        message = " ".join(_message(error).split())
        print(f"{f'rank {rank}: ' if rank else ''}{name}: error: {message}", file=sys.stderr)
        return 2
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning would exit with code 1
            return 130
        raise
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser_errors() -> tuple[type[Exception], ...]:
    from omegaconf.errors import OmegaConfBaseException  # here: slow to import

    return ArgumentError, OmegaConfBaseException


def _rank() -> int:
    utilities = sys.modules.get("lightning.pytorch.utilities")
    return getattr(utilities.rank_zero_only, "rank", 0) if utilities is not None else 0  # set by Lightning


def _message(error: Exception) -> str:
    """Return the message of an error, without the traceback that torch adds to errors of DataLoader workers."""
    text = str(error)
    return text.rpartition(f"\n{type(error).__name__}: ")[2] if _WORKER.match(text) else text


def raised_here(error: Exception) -> bool:
    """Return whether this project raised the error itself, possibly in a DataLoader worker."""
    if _WORKER.match(str(error)):
        file = _FRAME.findall(str(error))[-1]
    else:
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        file = traceback.tb_frame.f_code.co_filename if traceback is not None else ""
    return any(source in Path(file).parents for source in _SOURCES)
