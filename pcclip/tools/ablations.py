"""A grid of finetuning runs that differ in a few settings: `python -m pcclip.tools.ablations conf/ablations.yaml NAME`.

Each run is a `pcclip fit` in a folder of its own, where `conf`, `data` and what else it reads are links. A run that is done is
not run again, so that the command can be stopped and started at any time. At the end, or with what there is so far, it writes
a table and a plot into a Markdown file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from pcclip.tools.grid_plot import plot_grid
from pcclip.tools.spread import Run, read_run, write_part
from pcclip.tools.sweep_plot import Curve, plot_sweeps


@dataclass(frozen=True)
class Experiment:
    """One section of the file.

    Attributes:
        fit: Configuration of `pcclip fit` that all cells start from.
        settings: Of every cell, each `--key=value` of `pcclip fit`; for what saves time and changes no result.
        results: The `results.json` that it writes.
        links: What a run reads and does not make, files or folders; linked into its folder.
        seeds: `seed_everything` of the runs of each cell.
        columns: Heading to `task/subset/metric`, the columns of the table.
        plot: Headings of the two columns to plot against each other, across and up, of the cells that measure more ensembles
            than are tabulated (`trainer.callbacks.init_args.alphas`, if the table of results is the last callback of `fit`).
        cells: Name to settings of its own.
        models: The models to tabulate, as they are called in `results.json`.
        prepare: Arguments of `pcclip-data` to run before; steps that are up to date do nothing.
    """

    fit: str
    settings: dict[str, Any]
    results: str
    links: list[str]
    seeds: list[int]
    columns: dict[str, str]
    plot: list[str]
    cells: dict[str, dict[str, Any]]
    models: list[str]
    prepare: list[list[str]]


def read_experiment(file: str | Path, name: str) -> Experiment:
    """Read a section of the file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: No such section, or one that is not of that form.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: grid not found")
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or name not in content:
        raise ValueError(f'{file}: no experiment "{name}"; it has {", ".join(content or {})}')
    section = content[name]
    wanted = {field.name for field in fields(Experiment)}
    if not isinstance(section, dict) or set(section) != wanted:
        odd = sorted(wanted ^ set(section or {}))
        raise ValueError(f"{file}: {name} must have exactly {', '.join(sorted(wanted))}; look at {', '.join(odd)}")
    settings: dict[str, Any] = section | {"cells": _cells(section["cells"])}
    experiment = Experiment(**settings)
    if unknown := [heading for heading in experiment.plot if heading not in experiment.columns]:
        raise ValueError(f"{file}: {name}.plot names {unknown}, which is no column")
    if len({_slug(cell) for cell in experiment.cells}) < len(experiment.cells):
        raise ValueError(f"{file}: {name}.cells: two cells whose folders would be called alike; rename one")
    return experiment


def command(experiment: Experiment, cell: str, seed: int, extra: Sequence[str] = ()) -> list[str]:
    """Arguments of `pcclip fit` of one run."""
    settings = [
        f"--{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in (experiment.settings | experiment.cells[cell]).items()
    ]
    return ["fit", "--config", experiment.fit, f"--seed_everything={seed}", *settings, *extra]


def run_cell(experiment: Experiment, folder: Path, arguments: Sequence[str], root: Path) -> bool:
    """Run `pcclip` in `folder`, unless it has been; returns whether there are results.

    Args:
        experiment: What is read and written.
        folder: The run's own.
        arguments: Of `pcclip`.
        root: Where configuration, data and links are.
    """
    record = folder / "cell.json"
    configuration = hashlib.sha256((root / experiment.fit).read_bytes()).hexdigest()
    wanted = {"arguments": list(arguments), "configuration": configuration}
    if (folder / experiment.results).is_file() and record.is_file() and json.loads(record.read_text()) == wanted:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    for name in dict.fromkeys(["conf", "data", *experiment.links]):
        if not (root / name).exists():
            raise FileNotFoundError(f"{root / name}: not found; the grid's runs read it, make it first")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to((root / name).resolve())
    print(f"{folder.name}: pcclip {shlex.join(arguments)}", flush=True)
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-m", "pcclip.cli", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode or not (folder / experiment.results).is_file():
        tail = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        print(f"{folder.name}: failed ({done.returncode}), see {folder / 'log.txt'}: {' '.join(tail)}", flush=True)
        return False
    record.write_text(json.dumps(wanted))
    return True


def table(experiment: Experiment, runs: Mapping[str, Sequence[Run]], model: str) -> str:
    """Markdown: a row for each cell, mean [lowest, highest] over its seeds in each column.

    Raises:
        ValueError: A column that a run lacks.
    """
    rows = [[model, *experiment.columns, "seeds"]]
    base = next(iter(own for own in runs.values() if own), [])
    rows.append(["*base*", *(_cell(base, "base", metric) for metric in experiment.columns.values()), str(len(base))])
    for cell, own in runs.items():
        rows.append([cell, *(_cell(own, model, metric) for metric in experiment.columns.values()), str(len(own))])
    rows.insert(1, ["---"] * len(rows[0]))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def curves(experiment: Experiment, folder: Path) -> list[Curve]:
    """For each cell with a sweep over ensembles, the two plotted columns as means over its seeds."""
    found = []
    for cell in experiment.cells:
        runs = [read_run(path) for path in _files(experiment, folder, cell)]
        models = sorted({name[0] for run in runs for name in run}, key=_alpha)
        if {"base", *experiment.models}.issuperset(models):  # or there are none
            continue
        across, up = (
            [fmean(_value(run, model, experiment.columns[heading]) for run in runs) for model in models]
            for heading in experiment.plot
        )
        found.append(Curve(cell, [_alpha(model) for model in models], across, up))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0; 1 if some run failed; 2 after an error that the user can mend."""
    options = _parser().parse_args(arguments)
    root = Path.cwd()
    try:
        experiment = read_experiment(options.grid, options.experiment)
        cells = options.cells or list(experiment.cells)
        if unknown := [cell for cell in cells if cell not in experiment.cells]:
            raise ValueError(f"{options.grid}: no cells {unknown}; it has {', '.join(experiment.cells)}")
        folder = root / options.folder / options.experiment
        seeds = options.seeds if options.seeds is not None else experiment.seeds
        for step in experiment.prepare if seeds else []:
            subprocess.run([sys.executable, "-m", "data_prep", *step], check=True)
        failed = 0
        for seed in seeds:  # whole grids, seed by seed
            for cell in cells:
                arguments = command(experiment, cell, seed, options.settings)
                failed += not run_cell(experiment, folder / f"{_slug(cell)}-{seed}", arguments, root)
        write(experiment, options.experiment, folder, Path(options.output))
    except subprocess.CalledProcessError as error:
        print(f"ablations: error: {shlex.join(error.cmd)} failed ({error.returncode})", file=sys.stderr)
        return 2
    except (ValueError, OSError, yaml.YAMLError) as error:
        print(f"ablations: error: {error}", file=sys.stderr)
        return 2
    return 1 if failed else 0


def write(experiment: Experiment, name: str, folder: Path, output: Path) -> None:
    """Put the tables and plots between the experiment's marks in `output`: the cells, and if there is a sweep that too.

    Raises:
        ValueError: No run is done, or a column that a run lacks.
    """
    runs = {cell: [read_run(path) for path in _files(experiment, folder, cell)] for cell in experiment.cells}
    missing = [cell for cell, own in runs.items() if len(own) < len(experiment.seeds)]
    runs = {cell: own for cell, own in runs.items() if own}
    if not runs:
        raise ValueError(f"{folder}: no run is done, so there is nothing to write")
    text = "Mean [lowest, highest] over seeds.\n"
    if missing:
        text += f"Not run, or not with all {len(experiment.seeds)} seeds: {', '.join(missing)}.\n"
    for model in experiment.models:
        text += f"\n{table(experiment, runs, model)}"
    pictures = output.parent / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    panels = {
        heading: {
            model: {cell: _values(own, model, metric) for cell, own in runs.items()} for model in experiment.models
        }
        for heading, metric in experiment.columns.items()
    }
    any_runs = next(iter(runs.values()))
    base = {heading: _values(any_runs, "base", metric) for heading, metric in experiment.columns.items()}
    plot_grid(pictures / f"ablations_{name}_cells.png", panels, base)
    text += f"\n![The cells of the tables](images/ablations_{name}_cells.png)\n"
    if found := curves(experiment, folder):
        plot_sweeps(pictures / f"ablations_{name}.png", found, *experiment.plot)
        text += f"\n![{experiment.plot[1]} against {experiment.plot[0]}](images/ablations_{name}.png)\n"
    write_part(output, f"ablations-{name}", text)
    print(f'written to {output}, part "ablations-{name}"')


def _cells(content: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(content, dict) or not all(isinstance(cell, dict | None) for cell in content.values()):
        raise ValueError("cells: expected a name and settings for each, `name: {key: value}`")
    return {str(name): settings or {} for name, settings in content.items()}


def _files(experiment: Experiment, folder: Path, cell: str) -> list[Path]:
    """The results of each finished run of a cell."""
    done = [path for path in sorted(folder.glob(f"{_slug(cell)}-*")) if (path / "cell.json").is_file()]
    own = [path for path in done if re.fullmatch(r"\d+", path.name.removeprefix(f"{_slug(cell)}-"))]
    return [path / experiment.results for path in own]


def _slug(cell: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "_", cell.lower()).strip("_")


def _value(run: Run, model: str, column: str) -> float:
    task, _, rest = column.partition("/")
    subset, _, metric = rest.rpartition("/")
    try:
        return run[model, task, subset, metric].value
    except KeyError as error:
        raise ValueError(f'no row "{column}" of model "{model}"; mend `columns` or `models`') from error


def _cell(runs: Sequence[Run], model: str, column: str) -> str:
    if not runs:
        return "-"
    values = _values(runs, model, column)
    if any(map(math.isnan, values)):  # what one run leaves undefined is undefined
        return "-"
    mean = f"{fmean(values):.3f}"
    return mean if min(values) == max(values) else f"{mean} [{min(values):.3f}, {max(values):.3f}]"


def _values(runs: Sequence[Run], model: str, column: str) -> list[float]:
    return [_value(run, model, column) for run in runs]


def _alpha(model: str) -> float:
    """Share of the finetuned weights in a model of the sweep."""
    ends = {"base": 0.0, "finetuned": 1.0}
    return ends[model] if model in ends else float(model.split()[-1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pcclip.tools.ablations",
        description="Run a grid of finetuning runs and write its table. Finished runs are not run again.",
    )
    parser.add_argument("grid", help="YAML with the experiments, e.g. conf/ablations.yaml")
    parser.add_argument("experiment", help="which of them")
    parser.add_argument("--cells", nargs="+", default=[], metavar="CELL", help="only these")
    parser.add_argument(
        "--seeds", nargs="*", type=int, metavar="SEED", help="these in place of the file's; none: write only"
    )
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="--KEY=VALUE", help="for every run"
    )
    parser.add_argument("--folder", default="runs/ablations", help="where the runs go (default: %(default)s)")
    parser.add_argument("--output", default="docs/ablations.md", help="Markdown file (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
