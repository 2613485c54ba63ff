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
    """Read texts that say how classes differ: rows `{"first", "second", "text"}`. `text` describes first against second.

    As in `differences.jsonl`, a row may also have `reverse_text`, which describes second against first. Other keys are
    ignored.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: There is no row; or a row has another form, compares a class with itself, or repeats a text.
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
                    f'{where}: repeats a text of "{comparative.first}" against "{comparative.second}"; remove the row'
                )
            found[comparative] = None
    return list(found)


def read_class_pairs(file: str | Path) -> set[frozenset[str]]:
    """Read pairs of classes: rows `{"first", "second"}`, in either order.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: There is no row; or a row has another form, or pairs a class with itself.
    """
    remedy = "`pcclip-data confused_pairs` writes them, or check the path"
    return {frozenset((row.first, row.second)) for _, row in read_rows(file, _Pair, "pairs of classes", remedy)}


@dataclass(frozen=True)
class CaptionChoice:
    """File name of an image, its caption, and a caption that is false for the image."""

    filename: Sentence
    caption: Sentence
    negative_caption: Sentence


def read_caption_choices(source: str | Path) -> dict[str, list[CaptionChoice]]:
    """Read a JSON file, or all JSON files of a folder, in SugarCrepe's layout.

    The layout is `{"0": {"filename", "caption", "negative_caption"}, ...}`.

    Returns:
        File stem (`swap_obj`, ...) to the choices of the file.

    Raises:
        FileNotFoundError: The file or folder does not exist, or the folder has no JSON file.
        ValueError: A file has another layout.
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
    sentences: list[_CaptionOfImage] = Field(min_length=1)


class _CaptionedImages(BaseModel):
    images: list[_CaptionedImage]


def read_karpathy(file: str | Path, images: str | Path, split: str = "test") -> tuple[list[ImageFile], list[list[str]]]:
    """Read the images of a split and the captions of each image.

    Args:
        file: Karpathy's file for Flickr8k, Flickr30k or COCO: `{"images": [{"filename", "filepath"?, "split", "sentences":
            [{"raw"}]}]}`. Only COCO has `filepath`, the folder within `images`.
        images: The folder of the images.
        split: `train`, `restval`, `val` or `test`.

    Raises:
        FileNotFoundError: The file or images are missing.
        ValueError: The file has another layout, or no image of that split.
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
            f"{folder}: {len(missing)} of {len(found)} images of {file.name} are missing: {missing[:3]}; download all "
            "images of the dataset and unpack them there (COCO: train2014 and val2014 in one folder)"
        )
    return found, [[sentence.raw for sentence in row.sentences] for row in chosen]
