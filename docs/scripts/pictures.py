"""Pictures of README and docs/concepts: `python docs/scripts/pictures.py`, after `make train`, writes docs/images."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from PIL import Image

import pcclip

IMAGES = Path(__file__).parents[1] / "images"
BEFORE, AFTER, TEXT = "#8a8f98", "#1668b8", "#c2571a"  # colours of the base, the finetuned model, and of texts
TILES, TILE = 9, 96
STYLE = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "font.family": "DejaVu Sans"}


def main(run: str = "runs/demo", data: str = "data/demo/shapes/test", output: str = str(IMAGES)) -> None:
    """Draw all pictures.

    Args:
        run: Run folder of the demo, with `base` and `finetuned`.
        data: Test pictures of the demo, with `attributes.csv`.
        output: Folder of the pictures.
    """
    with matplotlib.rc_context(STYLE):
        figures = {
            "difference_embedding": difference_embedding(),
            "roles": roles(),
            "comparative_prompting": comparative_prompting(),
        }
        if Path(run, "finetuned").is_dir():
            figures["before_after"] = before_after(Path(run), Path(data), ("size", "count", "brightness"))
        else:
            print(f"{run}/finetuned not found, so before_after.png is left out; run `make train` first")
        for name, figure in figures.items():
            figure.savefig(Path(output, f"{name}.png"), dpi=130, bbox_inches="tight", metadata={"Software": "pcclip"})
            print(f"written to {output}/{name}.png")


def before_after(run: Path, data: Path, attributes: Sequence[str]) -> Figure:
    """Draw test pictures in the order of two models, side by side, with their true values below."""
    with (data / "attributes.csv").open(encoding="utf-8") as stream:
        true = {row["image"]: row for row in csv.DictReader(stream)}
    figure = Figure(figsize=(12, 0.35 + 1.28 * len(attributes)), layout="constrained")
    parts = figure.subfigures(1, 2, wspace=0.02)
    for part, title, name in zip(
        parts,
        ("before: the base model says least ... most", "after finetuning: least ... most"),
        ("base", "finetuned"),
        strict=True,
    ):
        model, rows = (
            pcclip.load(str(run / name)),
            part.subplots(2 * len(attributes), 1, height_ratios=[4, 1] * len(attributes)),
        )
        part.suptitle(title, fontsize=13)
        for number, attribute in enumerate(attributes):
            ranking = model.rank(data / "images", attribute=attribute)[::-1]
            shown = [Path(ranking[place].path) for place in np.linspace(0, len(ranking) - 1, TILES).round().astype(int)]
            _strip(rows[2 * number], shown, attribute if name == "base" else "")
            _bars(rows[2 * number + 1], [_share(true, file.name, attribute) for file in shown])
    return figure


def _strip(axes: Any, files: Sequence[Path], label: str) -> None:
    gap = np.full((TILE, 6, 3), 255, np.uint8)
    tiles = []
    for file in files:
        with Image.open(file) as picture:
            tiles += [gap, np.asarray(picture.convert("RGB").resize((TILE, TILE)))]
    axes.imshow(np.concatenate(tiles[1:], axis=1))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_ylabel(label)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _bars(axes: Any, heights: Sequence[float]) -> None:
    axes.bar(range(len(heights)), heights, color=AFTER, width=0.5)
    axes.set_ylim(0, 1)
    axes.set_xlim(-0.5, len(heights) - 0.5)
    axes.axis("off")


def _share(true: Mapping[str, Mapping[str, str]], image: str, attribute: str) -> float:
    """Where a picture's value lies between the smallest and the largest of all, from 0.05 to 1."""
    values = [float(row[attribute]) for row in true.values() if row[attribute]]
    return 0.05 + 0.95 * (float(true[image][attribute]) - min(values)) / (max(values) - min(values))


def difference_embedding() -> Figure:
    """Draw two image embeddings, their difference and a difference text, before and after."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, title, angle in zip(figure.subplots(1, 2), ("CLIP", "finetuned on differences"), (-20, 56), strict=True):
        axes.set_title(title)
        axes.set_xlim(-1.45, 1.45)
        axes.set_ylim(-0.62, 1.35)
        axes.set_aspect("equal")
        axes.axis("off")
        axes.add_patch(Circle((0, 0), 1, fill=False, color="#dddddd"))
        first, second = (np.array([np.cos(a), np.sin(a)]) for a in np.radians((75, 150)))
        for point, name, size in ((first, "image of a large star", 24), (second, "image of a small star", 10)):
            _arrow(axes, (0, 0), point, BEFORE)
            axes.plot(
                *point, marker="*", markersize=size, color="#d9a400", markeredgecolor="black", markeredgewidth=0.5
            )
            axes.annotate(name, point, xytext=(0, 16), textcoords="offset points", ha="center", fontsize=9)
        difference = (first - second) / np.linalg.norm(first - second)
        _arrow(axes, (0, 0), difference, AFTER)
        axes.annotate("first - second", difference, xytext=(6, 4), textcoords="offset points", color=AFTER)
        # The text tower moves; the images stay where they are.
        turned = np.degrees(np.arctan2(difference[1], difference[0])) - 6 if title != "CLIP" else angle
        end = np.array([np.cos(np.radians(turned)), np.sin(np.radians(turned))])
        _arrow(axes, (0, 0), end, TEXT)
        axes.annotate(
            '"The first star is\nlarger than the second."', end, xytext=(6, -26), textcoords="offset points", color=TEXT
        )
    return figure


def _arrow(axes: Any, start: Any, end: Any, colour: str) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=14, color=colour, linewidth=2, shrinkA=0, shrinkB=0
        )
    )


def roles() -> Figure:
    """Draw what three kinds of readers answer to four texts about one pair."""
    texts = (
        "The first star is large,\nthe second small.",
        "The second star is small,\nthe first large.",
        "The first star is small,\nthe second large.",
        "The second star is large,\nthe first small.",
    )
    readers = {
        "reads the words": (0.9, 0.9, -0.9, -0.9),
        "reads the order of mention": (0.9, -0.9, -0.9, 0.9),
        "silent where the second leads": (0.9, 0, -0.9, 0),
    }
    figure = Figure(figsize=(10.5, 3), layout="constrained")
    for axes, (title, cosines) in zip(figure.subplots(1, 3, sharey=True), readers.items(), strict=True):
        colours = [
            AFTER if (cosine > 0) == (number < 2) and cosine else "#c0392b" for number, cosine in enumerate(cosines)
        ]
        axes.barh(range(4), cosines, color=colours)
        axes.scatter(
            [0] * cosines.count(0), [number for number in range(4) if not cosines[number]], color="#c0392b", zorder=3
        )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_title(title)
        axes.set_xlim(-1.05, 1.05)
        axes.set_xticks([-1, 0, 1])
        axes.set_xlabel("cosine with first - second")
    axes.set_yticks(range(4), [f"{text}  ({'true' if number < 2 else 'false'})" for number, text in enumerate(texts)])
    axes.invert_yaxis()
    figure.supxlabel("first: a large star, second: a small one; red answers are wrong", fontsize=10)
    return figure


def comparative_prompting() -> Figure:
    """Draw how a text on the difference of two classes moves a class embedding."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(-0.35, 1.75)
    axes.set_ylim(-0.1, 1.22)
    axes.set_aspect("equal")
    axes.axis("off")
    tabby, egyptian = (np.array([np.cos(a), np.sin(a)]) for a in np.radians((60, 42)))
    text = tabby - np.array([np.cos(np.radians(8)), np.sin(np.radians(8))])
    target = tabby - text
    moved = 0.6 * egyptian + 0.4 * target
    moved /= np.linalg.norm(moved)
    arc = np.linspace(0, 1.6, 99)
    axes.plot(np.cos(arc), np.sin(arc), color="#dddddd")
    axes.plot(*tabby, "o", color=BEFORE, markersize=10)
    axes.annotate('"a photo of a tabby cat"', tabby, xytext=(8, 8), textcoords="offset points")
    axes.plot(*egyptian, "o", color=BEFORE, markersize=10)
    axes.annotate('"a photo of an egyptian cat"', egyptian, xytext=(10, 4), textcoords="offset points")
    axes.plot(*target, "o", color=TEXT, markersize=10, fillstyle="none")
    axes.annotate("tabby - text", target, xytext=(10, -2), textcoords="offset points", color=TEXT)
    axes.plot(*moved, "o", color=AFTER, markersize=10)
    axes.annotate("egyptian cat, moved", moved, xytext=(12, -4), textcoords="offset points", color=AFTER)
    _arrow(axes, tabby, target + 0.03 * (tabby - target), TEXT)
    note = '"A tabby cat is rounder and striped,\nwhereas an egyptian cat is lean and spotted."'
    axes.annotate(note, (tabby + target) / 2, xytext=(-30, -46), textcoords="offset points", color=TEXT, ha="right")
    return figure


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
