"""Scripts over several runs: `python -m pcclip.experiments NAME`."""

import inspect
import sys
from collections.abc import Callable, Sequence

from jsonargparse import ArgumentParser

from pcclip.command_line import run
from pcclip.experiments.ablations import run_grid
from pcclip.experiments.factor_plot import plot
from pcclip.experiments.packed_model import pack_model, unpack_model
from pcclip.experiments.paper import check_files, plan, write_page
from pcclip.experiments.spread import make_table
from pcclip.experiments.stored_objects import split_objects

SCRIPTS: dict[str, Callable[..., None]] = {
    "ablations": run_grid,
    "factor_plot": plot,
    "pack_model": pack_model,
    "paper_files": check_files,
    "paper_page": write_page,
    "paper_plan": plan,
    "split_objects": split_objects,
    "spread": make_table,
    "unpack_model": unpack_model,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a script and return its exit code. Arguments are those of the process if not given."""
    parser = ArgumentParser(prog="python -m pcclip.experiments", description=__doc__)
    scripts = parser.add_subcommands()
    for name, function in SCRIPTS.items():
        summary = inspect.getdoc(function).split("\n")[0]  # type: ignore[union-attr]  # it has one
        script, of_files = ArgumentParser(description=summary), "files" in inspect.signature(function).parameters
        if of_files:
            script.add_argument("files", nargs="+", type=str, help="results.json of each run")
        script.add_function_arguments(function, as_positional=not of_files, skip={"files"} if of_files else None)
        scripts.add_subcommand(name, script, help=summary)
    options = parser.parse_args(arguments)
    chosen = options.subcommand
    return run(chosen, lambda: SCRIPTS[chosen](**vars(options[chosen])))


if __name__ == "__main__":
    sys.exit(main())
