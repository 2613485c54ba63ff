"""Run a command: parse its options, print its errors in one line, return its exit code."""

import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import ArgumentError, ArgumentParser, Namespace

_SOURCES = (Path(__file__).parent, Path(__file__).parents[1] / "data_prep")
_WORKER = re.compile(r"Caught \w+ in DataLoader worker")  # how torch raises a worker's error again, with its traceback
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
    """Return the options of a command line; the parser must have `exit_on_error=False`.

    Raises:
        ValueError: An unknown option, a missing or bad value, or `${...}` that names no option.
    """
    try:
        return parser.parse_args(list(words))
    except _parser_errors() as error:
        raise ValueError(f"{error} (see {parser.prog} --help)") from error


def run(name: str, action: Callable[[], None]) -> int:
    """Run a command; print expected errors in one line.

    OSErrors are expected, and ValueErrors that this project raises itself. Others are raised: they are bugs, for which the
    traceback is needed.

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
        if isinstance(end.__context__, KeyboardInterrupt):  # which Lightning ends with code 1
            return 130
        raise
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser_errors() -> tuple[type[Exception], ...]:
    from omegaconf.errors import OmegaConfBaseException  # slow to import, and rarely needed

    return ArgumentError, OmegaConfBaseException


def _rank() -> int:
    """Return the number of this process among those of a training."""
    utilities = sys.modules.get("lightning.pytorch.utilities")
    return getattr(utilities.rank_zero_only, "rank", 0) if utilities is not None else 0  # set by Lightning


def _message(error: Exception) -> str:
    """Return an error's message, and of one that a DataLoader's worker raised only the message, without the traceback."""
    text = str(error)
    return text.rpartition(f"\n{type(error).__name__}: ")[2] if _WORKER.match(text) else text


def raised_here(error: Exception) -> bool:
    """Return whether this project raised an error itself, also in a DataLoader's worker."""
    if _WORKER.match(str(error)):
        file = _FRAME.findall(str(error))[-1]
    else:
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        file = traceback.tb_frame.f_code.co_filename if traceback is not None else ""
    return any(source in Path(file).parents for source in _SOURCES)
