"""Charts of the results pages, made from the tables on them: `python docs/scripts/charts.py`."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from jsonargparse import auto_cli
from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1]
COLOURS = {"base": "#8a8f98", "captions only": "#b89a3a", "ensembled 0.5": "#6aa5da", "ensembled 0.7": "#6aa5da"}
FINETUNED, SECOND = "#1668b8", "#c2571a"
NAMES = {"captions only": "captions\nonly", "ensembled 0.5": "ensembled", "ensembled 0.7": "ensembled"}
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "font.family": "DejaVu Sans"}
NUMBER = re.compile(r"^(-?[\d.]+)(?: \[(-?[\d.]+), (-?[\d.]+)\])?$")


class Cell(NamedTuple):
    """Mean, lowest and highest run."""

    value: float
    low: float
    high: float


Table = dict[tuple[str, ...], dict[str, Cell]]


def main(output: str = str(DOCS / "images")) -> None:
    """Draw all charts.

    Args:
        output: Folder of the charts.
    """
    photos, demo = (read(DOCS / f"results/{name}.md", name) for name in ("photos", "demo"))
    roles = read(DOCS / "results/photos.md", "roles")
    recipes = read(DOCS / "results/photos.md", "keep")
    cells = read(DOCS / "results/ablations.md", "ablations-photos")
    objects = read(DOCS / "results/real_clip.md", "real_clip")
    with matplotlib.rc_context(STYLE):
        for name, figure in {
            "differences": differences(photos, demo, cells),
            "prompts": prompts(photos, demo),
            "roles": roles_chart(cells),
            "ensembling": ensembling(roles),
            "keep": keep(recipes),
            "real_clip": real_clip(objects),
        }.items():
            figure.savefig(Path(output, f"results_{name}.png"), dpi=130, metadata={"Software": "pcclip"})
            print(f"written to {output}/results_{name}.png")


def read(page: Path, part: str) -> Table:
    """Read the first table between a part's marks: the leading words of each row to its numbers by heading.

    Raises:
        ValueError: The page has no such part, or no table in it.
    """
    found = re.search(
        rf"<!-- spread:{part} -->(.*?)<!-- /spread:{part} -->", page.read_text(encoding="utf-8"), re.DOTALL
    )
    lines = re.findall(r"^\|(.*)\|$", found[1], re.MULTILINE) if found else []
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    table: Table = {}
    for row in rows[2:]:
        numbers = {
            heading: Cell(*_numbers(cell)) for heading, cell in zip(rows[0], row, strict=True) if NUMBER.match(cell)
        }
        words = tuple(cell.strip("*") for cell in row if not NUMBER.match(cell) and cell != "-")
        table.setdefault(words, numbers)  # tables of further models follow the first
    if not table:
        raise ValueError(f"{page}: no table between the marks of {part!r}")
    return table


def _numbers(cell: str) -> tuple[float, float, float]:
    match = NUMBER.match(cell)
    assert match is not None
    value, low, high = (float(number) if number else float(match[1]) for number in match.groups())
    return value, low, high


def differences(photos: Table, demo: Table, cells: Table) -> Figure:
    """Forced choice between a difference text and its reverse."""
    panels: dict[str, dict[str, Cell]] = {}
    for title, column, subset in (
        ("Flickr8k: pairs of new photographs", "Flickr8k pairs", "flickr8k"),
        ("classes: trained texts, new pictures", "training texts on new pictures", "trained_texts"),
    ):
        row = photos["difference_texts", subset, "forced_choice"]
        captions = {"captions only": cells["captions only",][column]}
        panels[title] = {"base": row["base"]} | captions | {name: row[name] for name in ("ensembled 0.5", "finetuned")}
    row = demo["difference_texts", "demo", "forced_choice"]
    panels["embedded world: new pictures"] = {name: row[name] for name in ("base", "ensembled 0.7", "finetuned")}
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, (title, bars) in zip(figure.subplots(1, 3, sharey=True), panels.items(), strict=True):
        for name, cell in bars.items():
            _bar(axes, NAMES.get(name, name), cell, COLOURS.get(name, FINETUNED))
        axes.axhline(0.5, color="black", linestyle=":", linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0.4, 1.02)
        axes.tick_params("x", labelsize=9)
    figure.supylabel("true sentence chosen (chance .5)", fontsize=10)
    return figure


def _bar(axes: Any, name: str, cell: Cell, colour: str) -> None:
    errors = [[cell.value - cell.low], [cell.high - cell.value]]
    axes.bar(name, cell.value, color=colour, yerr=errors, capsize=3)
    axes.annotate(
        f"{cell.value:.2f}", (name, cell.high), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=9
    )


def prompts(photos: Table, demo: Table) -> Figure:
    """Rank correlation of difference texts and of two prompts subtracted, before and after."""
    sets = {"photographs:\nsize of classes": (photos, "unseen_names/size")}
    sets |= {f"embedded world:\n{name}": (demo, f"demo/{name}") for name in ("size", "count", "brightness", "position")}
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axes = figure.subplots()
    for place, (table, subset) in enumerate(sets.values()):
        rows = [table["attribute_ranking", subset, metric] for metric in ("spearman", "prompt_spearman")]
        for shift, row, colour, label in zip(
            (-0.12, 0.12), rows, (FINETUNED, SECOND), ("difference texts", "two prompts subtracted"), strict=True
        ):
            for model, filled in (("base", "none"), ("finetuned", "full")):
                cell = row[model]
                axes.errorbar(
                    place + shift,
                    cell.value,
                    yerr=[[cell.value - cell.low], [cell.high - cell.value]],
                    fmt="o",
                    color=colour,
                    fillstyle=filled,
                    markersize=8,
                    linewidth=1,
                    label=f"{label}, {model}" if place == 0 else None,
                )
            axes.annotate(
                "",
                (place + shift, row["finetuned"].value),
                (place + shift, row["base"].value),
                arrowprops={"arrowstyle": "->", "color": colour, "alpha": 0.5},
            )
    axes.axhline(0, color="black", linestyle=":", linewidth=1)
    axes.set_xticks(range(len(sets)), list(sets))
    axes.set_ylabel("rank correlation with true values")
    axes.set_ylim(-0.35, 1.05)
    figure.legend(loc="outside lower center", ncols=4, fontsize=9)
    return figure


def roles_chart(cells: Table) -> Figure:
    """Role test and swapped choice of recipes that differ in what teaches roles."""
    recipes = {
        "base": "base model",
        "no keep loss": "difference texts",
        "role swap 0.5": "+ role swap",
        "sign loss": "+ sign loss",
        "all four texts and sign loss": "+ both",
        "roles without sign loss": "+ role swap, longer,\ncomposed texts",
        "roles without twins": "+ all of it",
    }
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    for shift, metric, colour in ((-0.2, "role test", "#6aa5da"), (0.2, "swapped choice", FINETUNED)):
        found = [cells[name,][metric] for name in recipes]
        errors = [[cell.value - cell.low for cell in found], [cell.high - cell.value for cell in found]]
        places = [place + shift for place in range(len(found))]
        axes.bar(places, [cell.value for cell in found], width=0.38, yerr=errors, capsize=3, color=colour, label=metric)
    axes.axhline(0.5, color="black", linestyle=":", linewidth=1, label="chance")
    axes.set_xticks(range(len(recipes)), list(recipes.values()), fontsize=9)
    axes.set_ylim(0, 1.02)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def ensembling(roles: Table) -> Figure:
    """What blends of base and finetuned weights keep, over alpha."""
    panels = {
        "differences": {
            "forced choice": ("difference_texts", "flickr8k", "forced_choice"),
            "role test": ("difference_texts", "flickr8k", "role_test"),
            "swapped choice": ("difference_texts", "flickr8k", "swapped_choice"),
        },
        "what CLIP could do before": {
            "zero-shot, 150 classes": ("zero_shot", "tiny_imagenet", "top1"),
            "caption to picture, R@10": ("retrieval", "flickr8k", "text_to_image_recall10"),
        },
    }
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, (title, curves) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for name, key in curves.items():
            points = sorted((_alpha(model), cell) for model, cell in roles[key].items() if model != "n")
            alphas = [alpha for alpha, _ in points]
            (line,) = axes.plot(alphas, [cell.value for _, cell in points], marker="o", markersize=4, label=name)
            lows, highs = ([getattr(cell, end) for _, cell in points] for end in ("low", "high"))
            axes.fill_between(alphas, lows, highs, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("alpha (0: base, 1: finetuned)")
        axes.legend(fontsize=9)
        axes.grid(alpha=0.3)
    return figure


def keep(recipes: Table) -> Figure:
    """What recipes gain in differences against what they keep of zero-shot accuracy.

    Single seeds are hollow. Recipes that lose more than the chart shows are triangles at its left edge.
    """
    edge = 0.505
    figure = Figure(figsize=(10, 5), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, gained in zip(panels, ("Flickr8k pairs", "size"), strict=True):
        axes.axvline(recipes["base",]["zero-shot"].value, color="black", linestyle=":", linewidth=1, label="base")
        for place, ((name,), row) in enumerate(recipes.items()):
            if name == "base" or gained not in row:
                continue
            x, y = row["zero-shot"], row[gained]
            if x.value < edge:
                x, shape = Cell(edge, edge, edge), "<"
            else:
                shape = "os"[place // 10]  # there are ten colours
            errors = {
                f"{axis}err": [[cell.value - cell.low], [cell.high - cell.value]] for axis, cell in (("x", x), ("y", y))
            }
            colour = FINETUNED if "as shipped" in name else f"C{place}"
            filled = "none" if "(seed" in name else "full"
            axes.errorbar(
                x.value,
                y.value,
                **errors,
                fmt=shape,
                color=colour,
                fillstyle=filled,
                markersize=8,
                linewidth=1,
                label=name,
            )
        axes.set_xlabel("zero-shot accuracy, 150 classes")
        axes.set_xlim(left=edge - 0.001)
        axes.set_ylabel(f"forced choice, {gained}")
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def real_clip(objects: Table) -> Figure:
    """Rank correlations on real CLIP embeddings: CLIP's own words, difference texts before and after, and the ceiling."""
    columns = {"size_cm": "size", "weight_kg": "weight", "manmade": "man-made"}
    attributes = [
        subset.removeprefix("plain/") for _, subset, metric in objects if (subset[:6], metric) == ("plain/", "spearman")
    ]
    bars = {
        "CLIP's own words": ("plain", "stored_spearman", "base", SECOND),
        "difference texts, base": ("plain", "spearman", "base", COLOURS["base"]),
        "finetuned": ("plain", "spearman", "finetuned", FINETUNED),
        "finetuned, negated": ("negated", "spearman", "finetuned", "#6aa5da"),
    }
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = figure.subplots()
    for number, (label, (task, metric, model, colour)) in enumerate(bars.items()):
        found = {
            place: objects.get(("attribute_ranking", f"{task}/{name}", metric)) for place, name in enumerate(attributes)
        }
        cells = {place + 0.2 * (number - 1.5): row[model] for place, row in found.items() if row is not None}
        errors = [
            [cell.value - cell.low for cell in cells.values()],
            [cell.high - cell.value for cell in cells.values()],
        ]
        axes.bar(
            list(cells),
            [cell.value for cell in cells.values()],
            0.19,
            yerr=errors,
            capsize=2,
            color=colour,
            label=label,
        )
    ceilings = [objects["attribute_ranking", f"plain/{name}", "ceiling_spearman"]["base"].value for name in attributes]
    places = range(len(attributes))
    axes.hlines(
        ceilings, [p - 0.42 for p in places], [p + 0.42 for p in places], "black", label="ridge on training objects"
    )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(places, [columns.get(name, name) for name in attributes])
    axes.set_ylabel("rank correlation")
    figure.legend(loc="outside lower center", ncols=5, fontsize=9)
    return figure


def _alpha(model: str) -> float:
    ends = {"base": 0.0, "finetuned": 1.0}
    return ends[model] if model in ends else float(model.removeprefix("ensembled "))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
