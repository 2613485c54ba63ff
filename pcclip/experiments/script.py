"""Command lines of the scripts in this package, made from typed functions."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import ArgumentParser


def run_script(
    function: Callable[..., None], arguments: Sequence[str] | None = None, several: str | None = None
) -> int:
    """Call a function with its command-line arguments; parameters without a default are positional.

    Args:
        function: Its parameters and docstring make the command line.
        arguments: Those of the process if not given.
        several: A positional parameter that takes one or more words.

    Returns:
        Exit code: 0, or 2 after an error that the user can fix.
    """
    name = Path(inspect.getfile(function)).stem  # as a script its module is called `__main__`
    parser = ArgumentParser(
        prog=f"python -m pcclip.experiments.{name}", description=(function.__doc__ or "").split("\n")[0]
    )
    if several is not None:
        parser.add_argument(several, nargs="+", type=str, metavar=several.upper().rstrip("S"))
    parser.add_function_arguments(function, as_positional=several is None, skip={several} if several else None)
    try:
        function(**vars(parser.parse_args(arguments)))
    except (ValueError, OSError) as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    return 0
