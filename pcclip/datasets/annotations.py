"""Readers of annotations in JSON: comparative texts, pairs of classes, SugarCrepe's and Karpathy's captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, model_validator

from pcclip.data.labelled import ImageFile
from pcclip.datasets.tables import parse_json, read_rows
from pcclip.datasets.texts import Sentence
from pcclip.metrics.protocol import Comparative
from pcclip.paths import existing_file, read_text

KARPATHY = "download caption_datasets.zip (Karpathy's splits, cs.stanford.edu/people/karpathy/deepimagesent)"
SUGARCREPE = "download the `data` folder of github.com/RAIVNLab/sugar-crepe into it"


class _Pair(BaseModel):
    first: str = Field(min_length=1)
    second: str = Field(min_length=1)

    @model_validator(mode="after")
    def _differ(self) -> _Pair:
        if self.first == self.second:
            raise ValueError(f'"{self.first}" is paired with itself; name two classes')
        return self


class _ComparedPair(_Pair):
    text: Sentence
    reverse_text: Sentence | None = None


def read_comparatives(file: str | Path) -> list[Comparative]:
    """Read texts that say how classes differ: rows `{"first", "second", "text"}`, `text` describes first against second.

    As in `differences.jsonl` a row may also have `reverse_text`, which describes second against first. Other keys have no
    meaning here.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A row that is not of that form, a class compared with itself, a text given twice, or no row.
    """
    remedy = "`pcclip-data class_texts --pairs` writes them, or check the path"
    found: dict[Comparative, None] = {}
    for where, row in read_rows(file, _ComparedPair, "comparative texts", remedy):
        comparatives = [Comparative(row.first, row.second, row.text)]
        if row.reverse_text is not None:
            comparatives.append(Comparative(row.second, row.first, row.reverse_text))
        for comparative in comparatives:
            if comparative in found:
                raise ValueError(
                    f'{where}: the same text of "{comparative.first}" against "{comparative.second}" twice'
                )
            found[comparative] = None
    return list(found)


def read_class_pairs(file: str | Path) -> set[frozenset[str]]:
    """Read pairs of classes: rows `{"first", "second"}`, in either order.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A row that is not of that form, a class paired with itself, or no row.
    """
    remedy = "`pcclip-data confused_pairs` writes them, or check the path"
    return {frozenset((row.first, row.second)) for _, row in read_rows(file, _Pair, "pairs of classes", remedy)}


@dataclass(frozen=True)
class CaptionChoice:
    """An image's file name, its caption, and a caption that is false of it."""

    filename: Sentence
    caption: Sentence
    negative_caption: Sentence


def read_caption_choices(source: str | Path) -> dict[str, list[CaptionChoice]]:
    """Read a JSON file, or all of a folder, in SugarCrepe's layout: `{"0": {"filename", "caption", "negative_caption"}}`.

    Returns:
        File name without its ending (`swap_obj`, ...) to its choices.

    Raises:
        FileNotFoundError: The file or folder does not exist, or the folder has no JSON file.
        ValueError: A file that is not of that layout.
    """
    source = Path(source)
    files = sorted(source.glob("*.json")) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise FileNotFoundError(f"{source}: no SugarCrepe JSON file; {SUGARCREPE}")
    adapter = TypeAdapter(Annotated[dict[str, CaptionChoice], Field(min_length=1)])
    return {
        file.stem: list(parse_json(adapter, read_text(file, "SugarCrepe's captions"), str(file)).values())
        for file in files
    }


class _CaptionOfImage(BaseModel):
    raw: Annotated[str, StringConstraints(strip_whitespace=True)]


class _CaptionedImage(BaseModel):
    filename: str
    filepath: str = ""
    split: str
    sentences: list[_CaptionOfImage]


class _CaptionedImages(BaseModel):
    images: list[_CaptionedImage]


def read_karpathy(file: str | Path, images: str | Path, split: str = "test") -> tuple[list[ImageFile], list[list[str]]]:
    """Read the images of a split and the captions of each, from Flickr8k's, Flickr30k's or COCO's file.

    Args:
        file: `{"images": [{"filename", "filepath"?, "split", "sentences": [{"raw"}]}]}`; COCO's rows have `filepath`, the
            folder within `images`.
        images: The folder of the images.
        split: `train`, `restval`, `val` or `test`.

    Raises:
        FileNotFoundError: The file or images are missing.
        ValueError: A file that is not of that layout, or no image of that split.
    """
    file, folder = existing_file(file, "captions", f"{KARPATHY}, and give one of its files"), Path(images)
    text = read_text(file, "captions")
    rows = parse_json(TypeAdapter(_CaptionedImages), text, f"{file}: not in Karpathy's layout; {KARPATHY}").images
    chosen = [row for row in rows if row.split == split]
    if not chosen:
        raise ValueError(
            f'{file}: no image of split "{split}"; it has {", ".join(sorted({row.split for row in rows}))}'
        )
    names = [str(Path(row.filepath) / row.filename) for row in chosen]
    found = [ImageFile(str(folder / name), name) for name in names]
    if missing := [image.path for image in found if not Path(image.path).is_file()]:
        raise FileNotFoundError(
            f"{folder}: {len(missing)} of {len(found)} images of {file.name} are missing: {missing[:3]}; download the "
            "dataset's pictures and unpack them there as a whole (COCO: train2014 and val2014 in one folder)"
        )
    return found, [[sentence.raw for sentence in row.sentences] for row in chosen]
