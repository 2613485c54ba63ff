"""A grid of finetuning runs that differ in a few settings: `python -m pcclip.experiments ablations conf/ablations.yaml NAME`.

Each run is a `pcclip fit` with its own `--run` folder. Finished runs are skipped and stopped ones resumed, so the command can
be stopped and started again at any time. It writes tables and plots of the finished runs into a Markdown file.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from pcclip.experiments.spread import markdown, mean_and_range, write_part
from pcclip.paths import existing_file
from pcclip.reports.plots import plot_cells, plot_sweeps, save
from pcclip.reports.rows import read_runs, spread

RESULTS = "results.json"  # of each run, in its folder


@dataclass(frozen=True)
class Experiment:
    """One section of the file."""

    fit: str
    """Configuration of `pcclip fit` for all cells."""
    columns: dict[str, str]
    """Columns of the table: heading to `task/subset/metric`."""
    cells: dict[str, dict[str, Any] | None]
    """Name of a cell to its own settings, each `--key=value` of `pcclip fit`."""
    seeds: list[int]
    """`seed_everything` of the runs of each cell."""
    models: list[str]
    """Models of the tables, by their names in `results.json`."""
    settings: dict[str, Any]
    """Settings of every cell, such as paths in other run folders, and what saves time without changing results."""
    plot: list[str]
    """Headings of the x and the y axis of a plot of the cells that measure more ensembles than `models`."""
    prepare: list[list[str]] = field(default_factory=list)
    """`pcclip-data` commands to run first. Steps that are up to date do nothing."""


def read_experiment(file: str | Path, name: str) -> Experiment:
    """Read a section of the file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: There is no such section, or one of its keys is missing, unknown or of another type.
    """
    file = existing_file(file, "grid")
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or name not in content:
        raise ValueError(f'{file}: no experiment "{name}"; it has {", ".join(content or {})}')
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Experiment)
    try:
        experiment = Experiment(**vars(parser.parse_object(content[name])))
    except ArgumentError as error:
        raise ValueError(f"{file}: {name}: {error}") from error
    if unknown := [heading for heading in experiment.plot if heading not in experiment.columns]:
        raise ValueError(f"{file}: {name}.plot names {unknown}; name two of `columns`")
    if len({slug(cell) for cell in experiment.cells}) < len(experiment.cells):
        raise ValueError(f"{file}: {name}.cells: two cells have the same folder name; rename one")
    return experiment


def command(experiment: Experiment, cell: str, seed: int, settings: dict[str, Any] | None = None) -> list[str]:
    """Return the arguments of `pcclip fit` of one run.

    Settings of the cell override settings of the experiment. The `settings` argument overrides both.
    """
    chosen = experiment.settings | (experiment.cells[cell] or {}) | (settings or {})
    words = [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in chosen.items()]
    return ["fit", "--config", experiment.fit, f"--seed_everything={seed}", *words]


def run_cell(experiment: Experiment, folder: Path, arguments: Sequence[str]) -> bool:
    """Run `pcclip` with `--run=folder`, unless the same run is finished. Return whether it has results.

    The same run resumes from its last checkpoint if it was stopped. What another run left in the folder is deleted.
    """
    record, started = folder / "cell.json", folder / "started.json"
    configuration = hashlib.sha256(existing_file(experiment.fit, "configuration").read_bytes()).hexdigest()
    wanted = json.dumps({"arguments": list(arguments), "configuration": configuration})
    if (folder / RESULTS).is_file() and record.is_file() and record.read_text() == wanted:
        return True
    if not (started.is_file() and started.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        started.write_text(wanted)
    words = [*arguments, "--resume=true", f"--run={folder}"]
    print(f"pcclip {shlex.join(words)}", flush=True)
    with (folder / "log.txt").open("a") as log:
        done = subprocess.run(
            [sys.executable, "-m", "pcclip.cli", *words], stdout=log, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode or not (folder / RESULTS).is_file():
        tail = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        print(f"{folder.name}: failed ({done.returncode}), see {folder / 'log.txt'}: {' '.join(tail)}", flush=True)
        return False
    started.rename(record)
    return True


def tabulate(experiment: Experiment, folder: Path) -> pd.DataFrame:
    """Return the numbers of the finished runs: the columns of `read_runs`, with the heading as `metric`, and `cell`.

    Raises:
        ValueError: No run is finished, or a run lacks a column of one of the models.
    """
    headings = {metric: heading for heading, metric in experiment.columns.items()}
    tables = []
    for cell in experiment.cells:
        files = [record.parent / RESULTS for record in sorted(folder.glob(f"{slug(cell)}-*/cell.json"))]
        if not files:
            continue
        rows = read_runs(files)
        rows["metric"] = rows[["task", "subset", "metric"]].agg(lambda names: "/".join(filter(None, names)), axis=1)
        runs = rows.groupby(["model", "metric"])["run"].nunique()
        for model, metric in product(("base", *experiment.models), headings):
            if runs.get((model, metric), 0) < len(files):
                raise ValueError(
                    f'{cell}: not every run has a row "{metric}" of model "{model}"; fix `columns` or `models`'
                )
        tables.append(
            rows[rows["metric"].isin(headings)].replace({"metric": headings}).assign(cell=cell, task="", subset="")
        )
    if not tables:
        raise ValueError(f"{folder}: no run is finished, so there is nothing to write; run at least one seed")
    return pd.concat(tables, ignore_index=True)


def table(experiment: Experiment, numbers: pd.DataFrame, model: str) -> str:
    """Return a Markdown table: a row for each cell, with mean [lowest, highest] over its seeds in each column."""
    first = numbers["cell"].iloc[0]
    rows = []
    for name, cell, shown in [("*base*", first, "base"), *((cell, cell, model) for cell in numbers["cell"].unique())]:
        own = numbers[(numbers["cell"] == cell) & (numbers["model"] == shown)].set_index("metric")
        found = {heading: mean_and_range(*own.loc[heading, ["value", "low", "high"]]) for heading in experiment.columns}
        rows.append({model: name, **found, "seeds": own["seeds"].iloc[0]})
    return markdown(pd.DataFrame(rows))


def sweeps(experiment: Experiment, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return means over seeds of all columns, by alpha, for each cell that measured more ensembles than `models`."""
    found = {}
    for cell, own in rows.groupby("cell", sort=False):
        if set(own["model"]) <= {"base", *experiment.models}:
            continue
        found[cell] = (
            own.dropna(subset="alpha").pivot_table(index="alpha", columns="metric", values="value").reset_index()
        )
    return found


def run_grid(
    grid: str,
    experiment: str,
    cells: list[str] | None = None,
    seeds: list[int] | None = None,
    settings: dict[str, Any] | None = None,
    folder: str = "runs/ablations",
    output: str = "docs/results/ablations.md",
    pictures: str = "docs/images",
) -> None:
    """Run a grid of finetuning runs and write its tables. Finished runs are skipped, stopped ones resumed.

    Args:
        grid: YAML with experiments, e.g. conf/ablations.yaml.
        experiment: Name of an experiment in the file.
        cells: Run only these cells.
        seeds: Seeds in place of the file's. With an empty list, only the tables are written.
        settings: Settings of `pcclip fit` for every run, e.g. `{trainer.max_epochs: 1}`.
        folder: Folder of the runs.
        output: Markdown file of the tables.
        pictures: Folder of the plots.
    """
    section = read_experiment(grid, experiment)
    if unknown := [cell for cell in cells or [] if cell not in section.cells]:
        raise ValueError(f"{grid}: no cells {unknown}; it has {', '.join(section.cells)}")
    place = Path(folder, experiment)
    seeds = section.seeds if seeds is None else seeds
    for step in section.prepare if seeds else []:
        words = [sys.executable, "-m", "data_prep", *step]
        if subprocess.run(words, check=False).returncode:
            raise ValueError(f"{shlex.join(words)} failed")
    failed = []
    for seed in seeds:  # whole grids, seed by seed
        for cell in cells or section.cells:
            run = place / f"{slug(cell)}-{seed}"
            if not run_cell(section, run, command(section, cell, seed, settings)):
                failed.append(run.name)
    write(section, experiment, place, Path(output), Path(pictures))
    if failed:
        raise ValueError(f"{len(failed)} runs failed: {', '.join(failed)}")


def write(experiment: Experiment, name: str, folder: Path, output: Path, pictures: Path) -> None:
    """Write the tables and plots of the finished runs between the experiment's marks in `output`.

    Raises:
        ValueError: No run is finished, or one lacks a column.
    """
    rows = tabulate(experiment, folder)
    by_cell = rows.groupby("cell", sort=False)
    finished = by_cell["run"].nunique()
    numbers = pd.concat(
        [spread(own).assign(cell=cell, seeds=finished[cell]) for cell, own in by_cell], ignore_index=True
    )
    missing = [cell for cell in experiment.cells if finished.get(cell, 0) < len(experiment.seeds)]
    text = "Mean [lowest, highest] over seeds.\n"
    if missing:
        text += f"Not run, or not with all {len(experiment.seeds)} seeds: {', '.join(missing)}.\n"
    for model in experiment.models:
        text += f"\n{table(experiment, numbers, model)}"
    base = numbers[(numbers["model"] == "base") & (numbers["cell"] == numbers["cell"].iloc[0])].set_index("metric")
    cells = numbers[numbers["model"].isin(experiment.models)]
    shown = Path(os.path.relpath(pictures, output.parent)).as_posix()
    save(plot_cells(cells, dict(base["value"])), pictures / f"ablations_{name}_cells.png")
    text += f"\n![The cells of the tables]({shown}/ablations_{name}_cells.png)\n"
    if found := sweeps(experiment, rows):
        across, up = experiment.plot
        save(plot_sweeps(found, across, up), pictures / f"ablations_{name}.png")
        text += f"\n![{up} against {across}]({shown}/ablations_{name}.png)\n"
    write_part(output, f"ablations-{name}", text)
    print(f'written to {output}, part "ablations-{name}"')


def slug(cell: str) -> str:
    """Return the name of a cell in its folders, `<slug>-<seed>`. It contains no hyphen."""
    return re.sub(r"[^a-z0-9.]+", "_", cell.lower()).strip("_")
