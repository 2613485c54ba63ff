"""Readers of datasets, on tiny trees in their official layouts: everything by name, and clear words about what is missing."""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import open_clip
import pytest
from torchvision import datasets

from pcclip.data.pictures import UnreadableImageError
from pcclip.datasets.animals import CUB, AwA2
from pcclip.datasets.imagenet import ImageNet, NamedBySynset
from pcclip.datasets.tables import read_table
from pcclip.datasets.texts import read_texts
from pcclip.datasets.torchvision_sets import Torchvision
from tests.helpers.official_trees import (
    AWA2_PREDICATES,
    CIFAR100_CLASSES,
    write_awa2,
    write_cifar100,
    write_cub,
    write_dtd,
    write_eurosat,
    write_food101,
    write_pets,
    write_picture,
    write_sun397,
)

CONF = Path(__file__).parents[2] / "conf" / "eval"
PREDICATES = ["black", "white", "big", "small", "tail"]  # as in AwA2, "big" stands right before "small"
MATRIX = {  # of classes in the order of classes.txt, which is neither the folders' nor that of testclasses.txt
    "mouse": [10, 20, 1, 95, 50],
    "blue+whale": [30, 5, 99, 2, 60],
    "grizzly+bear": [5, -1, 80, 10, 0],
}


@pytest.fixture
def awa2(tmp_path: Path) -> Path:
    return write_awa2(tmp_path, MATRIX, PREDICATES, test=["grizzly+bear", "mouse"])


def test_awa2_reads_its_matrix_by_the_names_of_classes_and_predicates(awa2: Path) -> None:
    source = AwA2(str(awa2), classes="test", differences={"size": ("big", "small")})
    images, table = source.read(), source.class_table()
    assert images.classes == ["grizzly bear", "mouse"]  # whose numbers here are not their rows in the matrix
    assert [(image.key, image.label) for image in images.images[::2]] == [
        ("grizzly+bear/grizzly+bear_10001.jpg", 0),
        ("mouse/mouse_10001.jpg", 1),
    ]
    assert table.numbers("big", ["mouse", "grizzly bear"]).tolist() == [1, 80]
    assert table.numbers("small", ["mouse", "grizzly bear"]).tolist() == [95, 10]
    assert table.numbers("size", ["mouse", "grizzly bear"]).tolist() == [-94, 70]
    assert table.numbers("white", ["grizzly bear"]).isnan().all()  # -1 stands for unknown
    everything = AwA2(str(awa2))
    assert len(everything.read().images) == 6
    assert everything.class_table().numbers("black", ["mouse", "blue whale", "grizzly bear"]).tolist() == [10, 30, 5]
    with pytest.raises(ValueError, match="set `level: class`"):
        source.image_table()


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("predicates.txt", None, "predicates.txt .*download AwA2"),
        ("testclasses.txt", "yeti\n", r"\['yeti'\] .*testclasses.txt"),
        ("classes.txt", "1\tmouse\n2\tmouse\n", r"classes.txt: \['mouse'\]"),
        ("classes.txt", "1\tmouse\n3\tyeti\n", "classes.txt: .*`2 name`"),
        ("predicate-matrix-continuous.txt", "1 2 3\n", r"continuous.txt: \(1, 3\) .*\(3, 5\)"),
        ("JPEGImages/mouse", None, r"1 of 3 classes .*'mouse'"),
    ],
)
def test_awa2_that_is_not_whole(awa2: Path, file: str, content: str | None, named: str) -> None:
    spoil(awa2 / file, content)
    source = AwA2(str(awa2), classes="test")
    with pytest.raises((ValueError, FileNotFoundError), match=named):
        _ = source.class_table(), source.read()


def test_awa2_differences_of_unknown_predicates(awa2: Path) -> None:
    with pytest.raises(ValueError, match=r"size: .*\['huge'\]"):
        AwA2(str(awa2), differences={"size": ("huge", "small")}).class_table()


def spoil(file: Path, content: str | None) -> None:
    """Overwrite a file, or remove it (or the files of a folder) if there is no content."""
    if content is not None:
        file.write_text(content)
        return
    for each in [*file.iterdir()] if file.is_dir() else [file]:
        each.unlink()


def test_awa2_in_part_is_told_once(awa2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")  # Python's own, which pytest replaces
        for classes in ("all", "test"):
            AwA2(str(awa2), classes).read()  # type: ignore[arg-type]
    (warning,) = told
    assert "JPEGImages: found 6 pictures, expected 37,322" in str(warning.message)
    monkeypatch.setattr("pcclip.datasets.animals.AWA2_PICTURES", 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(AwA2(str(awa2), "test").read().images) == 4  # classes that are not chosen are not missing


def test_imagenet_folders_have_open_clip_s_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip, "IMAGENET_CLASSNAMES", ["tench", "missile", "missile"])
    monkeypatch.setattr("pcclip.datasets.imagenet.RENAMED", {2: "projectile"})
    for name in ("n00000002", "n00000001"):
        write_picture(tmp_path / "val" / name / "a.JPEG")
    with pytest.raises(ValueError, match=r"val: 2 class folders .* 3; download"):
        ImageNet(str(tmp_path / "val")).read()
    write_picture(tmp_path / "val" / "n00000007" / "a.JPEG")
    with pytest.warns(UserWarning, match="val: found 3 pictures, expected 50,000"):
        images = ImageNet(str(tmp_path / "val")).read()
    assert images.classes == ["tench", "missile", "projectile"]
    assert [(image.key, image.label) for image in images.images][1] == ("n00000002/a.JPEG", 1)


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    return write_cub(
        tmp_path,
        ["001.Black_footed_Albatross", "002.Laysan_Albatross"],
        ["has_bill_shape::dagger", "has_size::small_(5_-_9_in)"],
        is_train=[1, 0, 0, 1],
        of_classes=["10.0 90.0", "20.5 0.0"],
        of_images=[
            "1 1 1 3 2.5",
            "1 2 0 4 1",
            "2 1 0 3 1",
            "2 2 1 1 1",
            "3 1 1 4 1",
            "3 2 0 2 0 7",  # the archive's own file has some lines with more cells
            "4 1 0 4 1",
            "4 2 1 3 1",
        ],
    )


def test_cub_reads_pictures_classes_and_both_levels_of_attributes(cub: Path) -> None:
    source = CUB(str(cub))
    images = source.read()
    assert images.classes == ["Black footed Albatross", "Laysan Albatross"]
    assert [image.label for image in images.images] == [0, 1]  # the second and the third picture: those to test on
    keys = [image.key for image in images.images]
    table = source.image_table()
    assert table.keys == keys
    assert table.numbers("has_bill_shape::dagger", keys).tolist() == [0, 1]
    small = table.numbers("has_size::small_(5_-_9_in)", keys)
    assert small.isnan().tolist() == [True, False]  # not visible in the first
    assert source.class_table().numbers("has_bill_shape::dagger", images.classes[::-1]).tolist() == [20.5, 10]
    assert len(CUB(str(cub), "all").read().images) == 4


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("images.txt", None, "images.txt .*download CUB_200_2011"),
        ("../attributes.txt", None, "attributes.txt "),
        ("images/002.Laysan_Albatross/Laysan_Albatross_0001_1.jpg", None, "1 of 4 .*0001_1.jpg"),
        ("train_test_split.txt", "1 1\n", "train_test_split.txt: .* 4 lines"),
        ("image_class_labels.txt", "1 1\n2 7\n3 1\n4 1\n", "image_class_labels.txt: .*class 7"),
        ("attributes/image_attribute_labels.txt", "1 1 1 3 1\n1 9 1 3 1\n", "attribute_labels.txt, line 2: "),
        ("attributes/image_attribute_labels.txt", "1 1 1 3 1\n1 x 1 3 1\n", "attribute_labels.txt, line 2: "),
    ],
)
def test_cub_that_is_not_whole(cub: Path, file: str, content: str | None, named: str) -> None:
    spoil(cub / file, content)
    source = CUB(str(cub), "all")
    with pytest.raises((ValueError, FileNotFoundError), match=named):
        _ = source.read(), source.image_table(), source.class_table()


def test_pictures_named_by_synset(tmp_path: Path) -> None:
    for name in ("n02_1", "n01_7", "n02_12"):
        write_picture(tmp_path / "train" / f"{name}.jpg")
    table = tmp_path / "classes.jsonl"
    rows = [{"wnid": "n02", "name": "shark"}, {"wnid": "n01", "name": "tench"}, {"wnid": "n03", "name": "ray"}]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = NamedBySynset(str(tmp_path / "train"), str(table)).read()
    assert found.classes == ["shark", "tench", "ray"]
    assert {image.key: image.label for image in found.images} == {"n01_7.jpg": 1, "n02_1.jpg": 0, "n02_12.jpg": 0}
    write_picture(tmp_path / "train" / "dog.jpg")
    with pytest.raises(ValueError, match=r"train: .*\['dog\.jpg'\].*classes\.jsonl"):
        NamedBySynset(str(tmp_path / "train"), str(table)).read()
    table.write_text(json.dumps({"wnid": "n02", "name": None}) + "\n")
    with pytest.raises(ValueError, match=r"classes\.jsonl: .*\['n02'\]"):
        NamedBySynset(str(tmp_path / "train"), str(table)).read()


def test_a_column_of_words_makes_attributes(tmp_path: Path) -> None:
    table = tmp_path / "classes.csv"
    table.write_text("name,kind\nrobin,bird\npike,fish\nowl,bird\nthing,\n")
    numbers = read_table(table, "name").numbers("kind::bird", ["owl", "pike", "robin", "thing", "nobody"])
    assert numbers[:3].tolist() == [1, 0, 1]
    assert numbers[3:].isnan().all()
    with pytest.raises(ValueError, match=r'"beast" .*"kind".*\'bird\', \'fish\''):
        read_table(table, "name").numbers("kind::beast", ["owl"])


def test_torchvision_datasets(tmp_path: Path) -> None:
    write_eurosat(tmp_path, ["AnnualCrop", "Forest"], per_class=1)
    with pytest.warns(UserWarning, match="EuroSAT: found 2 pictures, expected 27,000"):
        images = Torchvision("EuroSAT", str(tmp_path), names={"AnnualCrop": "annual crop land"}).read()
    assert images.classes == ["annual crop land", "Forest"]
    assert [image.label for image in images.images] == [0, 1]
    assert len(set(images.images)) == 2
    decoded = images.images[0].decode()
    assert decoded.getpixel((0, 0))[2] > 100  # type: ignore[index]  # the first picture is blue
    (tmp_path / "eurosat/2750/Forest/Forest_1.jpg").write_bytes(b"torn")
    with pytest.raises(UnreadableImageError, match="EuroSAT/all/000001"):
        images.images[1].decode()

    for settings in ({"split": "test"}, {"name": "DTD", "split": None}):
        with pytest.raises(ValueError, match="split"):
            Torchvision(**{"name": "EuroSAT", "root": str(tmp_path), **settings})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`names` .*\['Sea'\]"):
        Torchvision("EuroSAT", str(tmp_path), names={"Sea": "sea"}).read()
    with pytest.raises(ValueError, match=r"'val'.* train and test"):
        Torchvision("CIFAR10", str(tmp_path), "val").read()


def test_cifar100_has_readable_names(tmp_path: Path) -> None:
    write_cifar100(tmp_path, ["apple", "aquarium_fish"], test=2)
    with (
        patch.object(datasets.CIFAR100, "_check_integrity", return_value=True),
        patch("torchvision.datasets.cifar.check_integrity", return_value=True),
    ):
        images = Torchvision("CIFAR100", str(tmp_path), "test").read()
    assert images.classes == ["apple", "aquarium fish"]
    assert [image.label for image in images.images] == [0, 1, 0, 1]
    assert images.images[0].decode().size[0] > 0
    # what embeddings are kept by: the file, and the place in it
    assert {(image.path, image.offset) for image in images.images} == {
        (str(tmp_path / "cifar-100-python/test"), place) for place in range(4)
    }


def test_sizes_name_classes_of_cifar100() -> None:
    table = read_table(CONF / "attributes" / "cifar100_size.csv", "name")
    classes = [name.replace("_", " ") for name in CIFAR100_CLASSES]
    assert len(set(classes)) == 100
    assert classes == sorted(classes)
    assert set(table.keys) <= set(classes)
    size = {name: float(text) for name, text in table.texts("size").items()}
    assert min(size.values()) > 0
    assert size["mouse"] < size["wolf"] < size["elephant"] < size["skyscraper"]


def test_flower_colours_name_flowers_of_that_colour() -> None:
    table = read_table(CONF / "attributes" / "flowers102_colours.csv", "name")
    assert set(table.keys) <= set(datasets.Flowers102.classes)
    colours = read_texts(CONF / "texts" / "flowers102_colours.yaml")
    of_colour = {colour: {name for name, cell in table.texts(colour).items() if cell == "1"} for colour in colours}
    assert {"sunflower", "daffodil"} <= of_colour["yellow"]
    assert sum(map(len, of_colour.values())) == len(table.keys) == len(set().union(*of_colour.values()))  # each has one


@pytest.mark.parametrize(
    ("name", "count"), [("cub", 312), ("awa2", 35), ("cifar100_size", 1), ("flowers102_colours", 7)]
)
def test_shipped_texts_are_read(name: str, count: int) -> None:
    file = CONF / "texts" / f"{name}.yaml"
    texts = read_texts(file)
    assert len(texts) == count == len([each for each in texts.values() if each.prompts])
    wordings = [wording for each in texts.values() for wording in each.wordings]
    assert not [wording for wording in wordings if "{" in wording.text + wording.reverse]
    if name == "cub":
        assert not [attribute for attribute in texts if not re.fullmatch(r"has_[a-z_]+::\S+", attribute)]
        said = [text for wording in wordings for text in (wording.text, wording.reverse)]
        assert len(set(said)) == len(said)
    if name == "awa2":
        used = {part for pair in [("big", "small")] for part in pair} | set(texts) - {"size"}
        assert used <= set(AWA2_PREDICATES)


@pytest.mark.parametrize(
    ("write", "name", "split", "classes", "lost"),
    [
        (write_dtd, "DTD", "test", ["banded"], "dtd/dtd/images/banded/banded_0001.jpg"),
        (write_food101, "Food101", "test", ["apple pie"], "food-101/images/apple_pie/1.jpg"),
        (write_sun397, "SUN397", None, ["airplane cabin"], None),
        (write_pets, "OxfordIIITPet", "test", ["Great Pyrenees"], "oxford-iiit-pet/images/great_pyrenees_2.jpg"),
    ],
)
def test_torchvision_layouts_and_archives_that_are_half_extracted(
    write: Callable[..., Any], name: Any, split: str | None, classes: list[str], lost: str | None, tmp_path: Path
) -> None:
    """With the annotation files that torchvision reads, as far as it does not check their hashes."""
    folder = {"SUN397": "/a/airplane_cabin"}.get(name, classes[0].lower().replace(" ", "_"))
    write(tmp_path, [folder])
    source = Torchvision(name, str(tmp_path), split)
    images = source.read()
    assert images.classes == classes
    assert images.images[0].decode().size[0] > 0
    if lost is not None:  # torchvision lists the files of SUN397 itself
        (tmp_path / lost).unlink()
        message = rf"1 of {len(images.images)} pictures of {name} are missing: .*{Path(lost).name}"
        with pytest.raises(FileNotFoundError, match=message):
            source.read()
