"""What `make paper` needs besides the project's commands: official files, a plan with costs, and one page of numbers.

docs/paper.sh has the commands. The tables in conf/paper are data: official files, stages, and the paper's numbers.
"""

import math
from pathlib import Path
from typing import Any

import open_clip
import pandas as pd

from pcclip.atomic import atomic_text
from pcclip.experiments.ablations import slug
from pcclip.experiments.spread import markdown, mean_and_range
from pcclip.results import read_results

OFFICIAL = "conf/paper/files.csv"  # the official files
STAGES = "conf/paper/stages.csv"  # for one seed
NUMBERS = "conf/paper/numbers.csv"  # the paper's, with the metric of each in both protocols
TEXT_TOKENS = 34  # mean length of a difference text
GENERATED = 5.07e13  # operations of an image of Stable Diffusion 1: 30 steps with guidance (torch's FlopCounterMode)
NOTES = """
*The paper's protocol* is its own: CLIP's template, `sign_accuracy`, five draws of 100 images, comparative prompting at alpha
0.8. Its known faults (classes and attributes by wrong indices, pairs picked by test labels, other texts for other models) are
not repeated. *The corrected protocol* asks more of the same images: the true one of a text and its reverse, over all pairs and
wordings; open_clip's ensemble of templates; the gain over the texts of other pairs. docs/reference/metrics.md defines them.

Fractions; mean [lowest, highest] over seeds; `-` where a number is missing. `ensembled 0.5` has the mean of finetuned and base
weights. The paper's columns have the numbers that this project quotes. Others, and the numbers of its tables, could not be
checked and are left out. CLIPScore is 2.5 times CLIP's cosine, at least 0, over prompts of this project, since the paper's were
not released. CLIPScore is meaningless if Stable Diffusion was trained with another text tower (docs/guides/paper.md).
"""


def check_files(sets: list[str], data: str = "data", download: bool = False) -> None:
    """Link the official files of the datasets into `data`, where the configurations look for them.

    Args:
        sets: Names of the datasets, as in the column `set` of the table.
        data: Folder of the official files, laid out like the column `path`.
        download: Let torchvision download its datasets into the folder.

    Raises:
        FileNotFoundError: A file that is not optional is missing. The message has the address and size of each.
    """
    missing = missing_files(sets, data)
    if download and missing["torchvision"].notna().any():
        from torchvision import datasets

        for name in missing["torchvision"].dropna():
            getattr(datasets, name)(Path(data, "torchvision"), download=True)
        missing = missing_files(sets, data)
    for path in pd.read_csv(OFFICIAL)["path"]:
        source, target = Path(data, path).absolute(), Path("data", path)
        if source.exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # a broken link
            target.symlink_to(source)
    needed = missing[missing["optional"].isna()]
    if len(needed):
        raise FileNotFoundError(
            f"{data}: {len(needed)} official files are missing; DOWNLOAD=1 fetches COCO and those of torchvision\n"
            f"{_listed(needed)}"
        )
    print(f"{data}: all needed official files of {', '.join(sets)} are there")
    _print_optional(missing)


def missing_files(sets: list[str], data: str) -> pd.DataFrame:
    """Return the rows of official files that are neither in the folder nor in `data`.

    Raises:
        ValueError: An unknown dataset.
    """
    table = pd.read_csv(OFFICIAL)
    if unknown := sorted(set(sets) - set(table["set"])):
        raise ValueError(f"{OFFICIAL}: has no datasets {unknown}; it has {', '.join(table['set'].unique())}")
    absent = [not Path(data, path).exists() and not Path("data", path).exists() for path in table["path"]]
    return table[table["set"].isin(sets) & pd.Series(absent)]


def plan(
    model: str,
    sets: list[str],
    data: str = "data",
    seeds: int = 3,
    prices: tuple[float, float] = (0.0, 0.0),
    answers_per_second: float = 20.0,
    tflops: float = 312.0,
    utilisation: float = 0.4,
) -> None:
    """Print the stages with disk space, requests, tokens, cost and hours. Nothing is run.

    Hours are estimates, not measurements: of the endpoint, requests by `answers_per_second`; of the GPU, operations by what
    it does in a second. A token costs a block of width W some 24 W^2 operations in a forward pass, and three times that in
    training. The operations of a generated image are counted (`GENERATED`).

    Args:
        model: open_clip's name of the model.
        sets: Names of the datasets.
        data: Folder of the official files.
        seeds: Number of training seeds.
        prices: Prices of a million prompt tokens and of a million answer tokens.
        answers_per_second: Answers of the endpoint in a second.
        tflops: Peak of the GPU in bfloat16, in 1e12 operations a second. 312 is an A100.
        utilisation: Share of the peak that is reached.
    """
    table = pd.read_csv(STAGES)
    table = table[table["set"].isin([*sets, "seed"])].reset_index(drop=True)
    table.loc[table["set"].isin(["seed", "generation"]), ["gb", "texts", "generated"]] *= seeds
    per_image, per_text = operations(model)
    done = table["images"] * per_image + 3 * table["texts"] * per_text + table["generated"] * GENERATED
    table["M prompt tokens"] = table["requests"] * table["prompt_tokens"] / 1e6
    table["M answer tokens"] = table["requests"] * table["answer_tokens"] / 1e6
    table["cost"] = table["M prompt tokens"] * prices[0] + table["M answer tokens"] * prices[1]
    table["endpoint hours"] = table["requests"] / answers_per_second / 3600
    table["GPU hours"] = done / (tflops * 1e12 * utilisation) / 3600
    numbers = ["gb", "requests", "M prompt tokens", "M answer tokens", "cost", "endpoint hours", "GPU hours"]
    table = table[["stage", "what", *numbers]]
    table.loc[len(table)] = ["all", "", *table[numbers].sum(skipna=False)]
    table["requests"] = [f"{count:,.0f}" for count in table["requests"]]
    for column in set(numbers) - {"requests"}:
        table[column] = [_shown(value) for value in table[column]]
    print(f"{model}, {seeds} seeds, {', '.join(sets)}\n\n{markdown(table.rename(columns={'gb': 'GB'}))}")
    print(
        f"Hours are estimated, not measured: {answers_per_second:g} answers a second, {utilisation:.0%} of {tflops:g} TFLOPS, "
        f"24 W^2 operations a token and block of width W, three times that in training, {GENERATED:.3g} (counted) a generated "
        "image. "
        "Evaluation also takes CPU time: CUB's 312 attributes ten minutes a model."
    )
    missing = missing_files(sets, data)
    needed = missing[missing["optional"].isna()]
    print(f"Missing official files:\n{_listed(needed)}" if len(needed) else "All needed official files are there.")
    _print_optional(missing)


def operations(model: str) -> tuple[float, float]:
    """Return the operations of a forward pass of one image and of one text, NaN if a tower is no plain transformer.

    Raises:
        ValueError: open_clip does not know the model.
    """
    configuration = open_clip.get_model_config(model)
    if configuration is None:
        raise ValueError(f"{model}: open_clip has no such model; give a name of open_clip.list_models()")
    vision, text = configuration["vision_cfg"], configuration["text_cfg"]
    if not all({"width", "layers"} <= tower.keys() and isinstance(tower["layers"], int) for tower in (vision, text)):
        return math.nan, math.nan
    tokens = (vision["image_size"] // vision["patch_size"]) ** 2 + 1
    return _blocks(vision) * tokens, _blocks(text) * TEXT_TOKENS


def write_page(cells: list[str], folder: Path) -> None:
    """Write one page, `paper.md`, with the paper's numbers and the numbers of finished runs in both protocols.

    Args:
        cells: Names of the cells of conf/ablations.yaml that were run.
        folder: Folder of the runs of one model, `<cell>-<seed>`, of its numbers before finetuning, `base`, and of the page.

    Raises:
        FileNotFoundError: No run of one of the cells is finished.
    """
    paper = pd.read_csv(NUMBERS)
    rows: list[dict[str, Any]] = []
    runs = {}
    for cell in cells:
        runs[cell] = sorted(record.parent for record in folder.glob(f"{slug(cell)}-*/cell.json"))
        if not runs[cell]:
            raise FileNotFoundError(f"{folder}: no finished run of the cell {cell!r}; run the stage `train` first")
        rows += [row for run in runs[cell] for row in _rows(run, cell)]
    found = pd.DataFrame([*_rows(folder / "base", "CLIP"), *rows])
    found.loc[found["model"] == "base", "cell"] = "CLIP"
    values = found.groupby(["model", "cell", "metric"])["value"].agg(["mean", "min", "max"])
    ours = {key: mean_and_range(mean, low, high) for key, mean, low, high in values.itertuples()}
    text = (
        f"# The paper's numbers and ours\n\nSeeds: {', '.join(f'{cell} {len(runs[cell])}' for cell in cells)}.\n{NOTES}"
    )
    for protocol, metric in (("The paper's protocol", "metric"), ("Corrected protocol", "corrected")):
        for model in ("finetuned", "ensembled 0.5"):
            table = paper[["experiment", "set"]].fillna("-")
            if metric == "metric":
                table["table"] = paper["table"].fillna("-")
                table["paper: CLIP"] = [_shown(value, 3) for value in paper["paper_clip"]]
                table["paper: PC-CLIP"] = [_shown(value, 3) for value in paper["paper_pc_clip"]]
            table["CLIP"] = [ours.get(("base", "CLIP", name), "-") for name in paper[metric]]
            for cell in cells:
                table[cell] = [ours.get((model, cell, name), "-") for name in paper[metric]]
            known = paper["paper_clip"].notna() if metric == "metric" else False
            text += f"\n## {protocol}, {model}\n\n{markdown(table[paper[metric].notna() | known])}"
    with atomic_text(folder / "paper.md") as stream:
        stream.write(text)
    print(f"written to {folder / 'paper.md'}")


def _rows(run: Path, cell: str) -> list[dict[str, Any]]:
    """Return the numbers of a run: those at the end of its training, and those of its evaluations."""
    return [
        {"cell": cell, "model": model, "metric": result.tag, "value": result.value}
        for file in sorted([*run.glob("results.json"), *run.glob("eval/*.json")])
        for model, results in read_results(file).items()
        for result in results
    ]


def _shown(value: float, digits: int = 2) -> str:
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def _blocks(tower: dict[str, Any]) -> float:
    return 24.0 * int(tower["layers"]) * int(tower["width"]) ** 2


def _print_optional(missing: pd.DataFrame) -> None:
    if len(optional := missing[missing["optional"].notna()]):
        print(f"Optional files that are missing:\n{_listed(optional)}")


def _listed(missing: pd.DataFrame) -> str:
    sizes = ["size unknown" if math.isnan(gb) else f"{gb:g} GB" for gb in missing["gb"]]
    return "\n".join(
        f"- {path} ({size}): {source}"
        for path, size, source in zip(missing["path"], sizes, missing["source"], strict=True)
    )
