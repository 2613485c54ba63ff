"""Source `cub`: CUB-200-2011 with the captions of Reed et al. (*Learning Deep Representations of Fine-Grained Visual
Descriptions*, ten an image)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.sources.folder import read_lines
from data_prep.sources.source import REPLACED, Candidate, Losses, SourceOptions, folder_hash


def inputs(options: SourceOptions) -> dict[str, str | Path]:
    """Return images.txt, and hashes over names, sizes and times of images and captions.

    Raises:
        FileNotFoundError: images.txt, the images or the captions are missing.
    """
    root, texts = Path(options.input), _texts(options)
    if not (root / "images.txt").is_file() or not (root / "images").is_dir():
        raise FileNotFoundError(
            f"{root}: `input` of the captions step must be CUB_200_2011, with images.txt and images/"
        )
    if not texts.is_dir():
        raise FileNotFoundError(
            f"{texts}: captions not found; set captions.texts to the folder text_c10 of Reed et al."
        )
    return {
        "input": root / "images.txt",
        "images": folder_hash(root / "images"),
        "texts": folder_hash(texts, (".txt",)),
    }


def candidates(options: SourceOptions, losses: Losses) -> Iterator[Candidate]:
    """Yield images in the order of images.txt, with their ids from there and the name of their class."""
    root, texts = Path(options.input).absolute(), _texts(options)
    lines = (root / "images.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        name, _, file = line.strip().partition(" ")
        if not Path(file).name or REPLACED in line:
            losses.add("bad_row", f"images.txt, line {number}: {line!r}")
            continue
        captions = read_lines((texts / file).with_suffix(".txt")) or []
        yield Candidate(name, root / "images" / file, captions, {"class": class_name(Path(file).parent.name)})


def class_name(folder: str) -> str:
    """The name of a class from its folder: `001.Black_footed_Albatross` is "Black footed Albatross"."""
    return folder.split(".", 1)[-1].replace("_", " ")


def _texts(options: SourceOptions) -> Path:
    return Path(options.input) / "text_c10" if options.texts is None else Path(options.texts)
