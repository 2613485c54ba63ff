"""Annotations: comparative texts, pairs of classes, and the official layouts of SugarCrepe and Karpathy."""

import json
from pathlib import Path

import pytest

from pcclip.datasets.annotations import (
    CaptionChoice,
    read_caption_choices,
    read_class_pairs,
    read_comparatives,
    read_karpathy,
)
from pcclip.metrics.protocol import Comparative
from tests.helpers.official_trees import write_karpathy, write_picture

CHOICE = {"filename": "000000085329.jpg", "caption": "a dog on a mat ", "negative_caption": "a mat on a dog"}
KARPATHY = {f"val2014/{number}.jpg": split for number, split in enumerate(["train", "test", "test"])}


def test_one_row_a_direction_or_one_for_both(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(
        '{"first": "ant", "second": "bee", "text": "ants do not fly, unlike bees", "pair_id": "7"}\n\n'
        '{"first": "cat", "second": "dog", "text": "cats purr,\u2028 dogs bark ", "reverse_text": "dogs bark, cats purr"}\n',
        encoding="utf-8",
    )
    assert read_comparatives(file) == [
        Comparative("ant", "bee", "ants do not fly, unlike bees"),
        Comparative("cat", "dog", "cats purr,\u2028 dogs bark"),
        Comparative("dog", "cat", "dogs bark, cats purr"),
    ]
    assert read_class_pairs(file) == {frozenset(("ant", "bee")), frozenset(("dog", "cat"))}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "texts.jsonl: "),
        ('{"first": "ant", "text": "x"}', "texts.jsonl, line 1: second"),
        ('{"first": "ant", "second": "ant", "text": "x"}', 'line 1: "ant"'),
        ('\n{"first": "ant", "second": "bee", "text": " "}', "line 2: text"),
        ('{"first": "ant", "second": "bee", "text": "x", "reverse_text": ""}', "line 1: reverse_text"),
        ('{"first": "ant", "second": "bee", "text": "x"}\n' * 2, 'line 2: .*"ant" against "bee"'),
    ],
)
def test_bad_comparatives(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "texts.jsonl").write_text(content)
    with pytest.raises(ValueError, match=named):
        read_comparatives(tmp_path / "texts.jsonl")


def test_missing_files_say_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"texts\.jsonl: .*pcclip-data class_texts --pairs"):
        read_comparatives(tmp_path / "texts.jsonl")
    with pytest.raises(FileNotFoundError, match=r"pairs\.jsonl: .*pcclip-data confused_pairs"):
        read_class_pairs(tmp_path / "pairs.jsonl")
    for source in (tmp_path, tmp_path / "swap_obj.json"):
        with pytest.raises(FileNotFoundError, match=r"download .*sugar-crepe"):
            read_caption_choices(source)


def test_caption_choices_of_a_file_and_a_folder(tmp_path: Path) -> None:
    for stem in ("swap_obj", "add_att"):
        (tmp_path / f"{stem}.json").write_text(json.dumps({"0": CHOICE, "1": {**CHOICE, "caption": stem}}))
    both = read_caption_choices(tmp_path)
    assert list(both) == ["add_att", "swap_obj"]
    assert both["swap_obj"] == [
        CaptionChoice("000000085329.jpg", "a dog on a mat", "a mat on a dog"),
        CaptionChoice("000000085329.jpg", "swap_obj", "a mat on a dog"),
    ]
    assert read_caption_choices(tmp_path / "swap_obj.json") == {"swap_obj": both["swap_obj"]}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "swap_obj.json: "),
        ("{}", "swap_obj.json: "),
        (json.dumps({"3": {"filename": "a.jpg", "caption": "x"}}), "3.negative_caption"),
        (json.dumps({"3": {**CHOICE, "caption": " "}}), "3.caption"),
    ],
)
def test_bad_caption_choices(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "swap_obj.json").write_text(content)
    with pytest.raises(ValueError, match=named):
        read_caption_choices(tmp_path)


def test_karpathy_captions(tmp_path: Path) -> None:
    for number in (1, 2):
        write_picture(tmp_path / "images" / "val2014" / f"{number}.jpg")
    file = write_karpathy(tmp_path / "dataset_coco.json", KARPATHY)
    images, captions = read_karpathy(file, tmp_path / "images")
    assert [image.key for image in images] == ["val2014/1.jpg", "val2014/2.jpg"]
    assert captions == [["caption 1", "b"], ["caption 2", "b"]]
    for split, error, message in (
        ("val", ValueError, 'no image of split "val"; it has test, train'),
        ("train", FileNotFoundError, "1 of 1 images of dataset_coco.json are missing"),
    ):
        with pytest.raises(error, match=message):
            read_karpathy(file, tmp_path / "images", split)
    with pytest.raises(ValueError, match=r"other\.json: .*download caption_datasets\.zip.*images\.0\."):
        read_karpathy(write_karpathy(tmp_path / "other.json", KARPATHY, images=[{"name": 1}]), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json: .*download caption_datasets\.zip"):
        read_karpathy(tmp_path / "nowhere.json", tmp_path)
