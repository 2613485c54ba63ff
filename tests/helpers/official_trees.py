"""Tiny trees of pictures in the official layouts of the evaluation's datasets, with their official names.

Each `write_...` makes a dataset as its archives unpack it. `TREES` has those that the configurations of conf/eval read, by
the name of the configuration, in the folders that they name beneath `data`.
"""

import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from timm.data import ImageNetInfo
from torchvision import datasets

from pcclip.datasets.texts import read_texts

CONF = Path(__file__).parents[2] / "conf" / "eval"


def _words(text: str) -> list[str]:
    return text.split()


CIFAR10_CLASSES = _words("airplane automobile bird cat deer dog frog horse ship truck")
# CIFAR-100's fine labels, in the order of their numbers
CIFAR100_CLASSES = _words(
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish "
    "forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle "
    "mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine "
    "possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar "
    "sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale "
    "willow_tree wolf woman worm"
)
EUROSAT_CLASSES = _words(
    "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential River SeaLake"
)
# Some classes each of those that may have fewer; SUN397's names are paths, of which the first part is a letter
FOOD101_CLASSES = _words("apple_pie baby_back_ribs baklava beef_carpaccio beet_salad beignets bibimbap caprese_salad")
PET_CLASSES = _words("Abyssinian american_bulldog Bengal Egyptian_Mau english_cocker_spaniel great_pyrenees pug")
DTD_CLASSES = _words("banded blotchy braided bubbly bumpy chequered cobwebbed polka-dotted")
SUN397_CLASSES = _words(
    "/a/abbey /a/airplane_cabin /a/apartment_building/outdoor /a/aquarium /b/bar /c/church/indoor /c/church/outdoor "
    "/t/theater/indoor_procenium"
)
FLOWER_SPLITS = ("trnid", "valid", "tstid")  # as setid.mat calls them
# AwA2's classes.txt, predicates.txt and testclasses.txt
AWA2_CLASSES = _words(
    "antelope grizzly+bear killer+whale beaver dalmatian persian+cat horse german+shepherd blue+whale siamese+cat skunk mole "
    "tiger hippopotamus leopard moose spider+monkey humpback+whale elephant gorilla ox fox sheep seal chimpanzee hamster "
    "squirrel rhinoceros rabbit bat giraffe wolf chihuahua rat weasel otter buffalo zebra giant+panda deer bobcat pig lion "
    "mouse polar+bear collie walrus raccoon cow dolphin"
)
AWA2_PREDICATES = _words(
    "black white blue brown gray orange red yellow patches spots stripes furry hairless toughskin big small bulbous lean "
    "flippers hands hooves pads paws longleg longneck tail chewteeth meatteeth buckteeth strainteeth horns claws tusks "
    "smelly flys hops swims tunnels walks fast slow strong weak muscle bipedal quadrapedal active inactive nocturnal "
    "hibernate agility fish meat plankton vegetation insects forager grazer hunter scavenger skimmer stalker newworld "
    "oldworld arctic coastal desert bush plains forest fields jungle mountains ocean ground water tree cave fierce timid "
    "smart group solitary nestspot domestic"
)
AWA2_TEST_CLASSES = _words(
    "chimpanzee giant+panda leopard persian+cat pig hippopotamus humpback+whale raccoon rat seal"
)
CUB_CLASSES = _words(  # the first of classes.txt
    "001.Black_footed_Albatross 002.Laysan_Albatross 003.Sooty_Albatross 004.Groove_billed_Ani 005.Crested_Auklet "
    "006.Least_Auklet 007.Parakeet_Auklet 008.Rhinoceros_Auklet 009.Brewer_Blackbird 010.Red_winged_Blackbird "
    "011.Rusty_Blackbird 012.Yellow_headed_Blackbird"
)
SUGARCREPE_FILES = _words("add_att add_obj replace_att replace_obj replace_rel swap_att swap_obj")
COCO_VAL2017 = _words("000000085329.jpg 000000397133.jpg 000000037777.jpg")

SIMAT_TRIPLETS = [("cat", "sitting on a", "bench"), ("dog", "sitting on a", "bench"), ("dog", "sitting on a", "rug")]
# columns of SIMAT's transfos.csv; images are numbered in the order of sorted folders and files
_SIMAT_HEADER = ",transfo_id,region_id,field,value,target,norm,query_ids,target_ids,dataset_id,norm2,is_test\n"
_SIMAT_ROWS = [
    "3,3,104,subj,dog,cat,9,1,0,2,4,True",
    "4,4,104,obj,bench,rug,9,1,2,2,16,True",
    "8,8,61,obj,rug,bench,9,2,1,4,4,False",
    "9,9,61,subj,dog,zebra,9,2,3,4,4,True",
]
_SIMAT_REGIONS = [(7, 0), (88, 0), (104, 1), (300, 1), (61, 2), (9, 2)]  # region and triplet


def write_picture(file: Path, number: int = 0) -> None:
    """A picture of one colour, another for each number."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (number % 256, 57 * number % 256, 151 * number % 256)).save(file)


def write_lines(file: Path, lines: Sequence[str]) -> None:
    """A text file of these lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(line + "\n" for line in lines))


def write_cifar10(root: Path, train: int = 1, test: int = 2) -> None:
    """CIFAR-10 with so many pictures of each class in each of its files."""
    folder = root / "cifar-10-batches-py"
    for name, per_class in {**{f"data_batch_{i}": train for i in range(1, 6)}, "test_batch": test}.items():
        pixels, labels = _cifar_pictures(len(CIFAR10_CLASSES), per_class)
        files = [f"{CIFAR10_CLASSES[label]}_s_{place:06d}.png" for place, label in enumerate(labels)]
        _pickle(folder / name, {"batch_label": name, "labels": labels, "data": pixels, "filenames": files})
    _pickle(folder / "batches.meta", {"num_cases_per_batch": 10, "label_names": CIFAR10_CLASSES, "num_vis": 3072})


def write_cifar100(root: Path, classes: Sequence[str] = CIFAR100_CLASSES, train: int = 1, test: int = 1) -> None:
    """CIFAR-100 with so many pictures of each class."""
    folder = root / "cifar-100-python"
    for name, per_class in {"train": train, "test": test}.items():
        pixels, labels = _cifar_pictures(len(classes), per_class)
        files = [f"{classes[label]}_s_{place:06d}.png" for place, label in enumerate(labels)]
        coarse = [label % 20 for label in labels]
        content = {"filenames": files, "batch_label": name, "fine_labels": labels, "coarse_labels": coarse}
        _pickle(folder / name, content | {"data": pixels})
    coarse_names = [f"coarse_{label}" for label in range(20)]
    _pickle(folder / "meta", {"fine_label_names": list(classes), "coarse_label_names": coarse_names})


def write_eurosat(root: Path, classes: Sequence[str] = EUROSAT_CLASSES, per_class: int = 2) -> None:
    """EuroSAT's RGB pictures."""
    _write_class_folders(root / "eurosat/2750", classes, per_class, "{name}_{number}.jpg")


def write_flowers102(root: Path, train: int = 8, test: int = 3) -> None:
    """Oxford's 102 flowers, so many pictures of each for training and to test on, and one for validation."""
    folder, classes = root / "flowers-102", len(datasets.Flowers102.classes)
    labels = np.repeat(np.arange(1, classes + 1), train + 1 + test)
    for number in range(1, len(labels) + 1):
        write_picture(folder / f"jpg/image_{number:05d}.jpg", number)
    numbers = np.arange(1, len(labels) + 1).reshape(classes, -1)
    savemat(folder / "imagelabels.mat", {"labels": labels[None].astype(np.uint8)})
    splits = np.split(numbers, [train, train + 1], axis=1)
    savemat(folder / "setid.mat", {key: part.reshape(1, -1) for key, part in zip(FLOWER_SPLITS, splits, strict=True)})


def write_food101(root: Path, classes: Sequence[str] = FOOD101_CLASSES, train: int = 20, test: int = 2) -> None:
    """Food-101 with so many pictures of each class."""
    folder = root / "food-101"
    _write_class_folders(folder / "images", classes, train + test, "{number}.jpg")
    write_lines(folder / "meta/classes.txt", classes)
    for split, numbers in {"test": range(1, test + 1), "train": range(test + 1, test + train + 1)}.items():
        listed = {name: [f"{name}/{number}" for number in numbers] for name in classes}
        write_lines(folder / f"meta/{split}.txt", [file for files in listed.values() for file in files])
        (folder / f"meta/{split}.json").write_text(json.dumps(listed))


def write_pets(root: Path, classes: Sequence[str] = PET_CLASSES, train: int = 20, test: int = 2) -> None:
    """Oxford-IIIT Pets with so many pictures of each class; cats' names begin with a capital letter."""
    folder = root / "oxford-iiit-pet"
    lines: dict[str, list[str]] = {"test": [], "trainval": []}
    for label, name in enumerate(classes, start=1):
        for number in range(1, test + train + 1):
            write_picture(folder / f"images/{name}_{number}.jpg", 10 * label + number)
            kind = 1 if name[0].isupper() else 2
            lines["test" if number <= test else "trainval"].append(f"{name}_{number} {label} {kind} 1")
    for split, own in lines.items():
        write_lines(folder / f"annotations/{split}.txt", own)


def write_dtd(root: Path, classes: Sequence[str] = DTD_CLASSES, train: int = 20, test: int = 2) -> None:
    """The Describable Textures with so many pictures of each class in the first partition, which alone is written."""
    folder = root / "dtd/dtd"
    _write_class_folders(folder / "images", classes, train + test, "{name}_{number:04d}.jpg")
    for split, numbers in {"test": range(1, test + 1), "train": range(test + 1, test + train + 1)}.items():
        files = [f"{name}/{name}_{number:04d}.jpg" for name in classes for number in numbers]
        write_lines(folder / f"labels/{split}1.txt", files)


def write_sun397(root: Path, classes: Sequence[str] = SUN397_CLASSES, per_class: int = 2) -> None:
    """SUN397 with its list of classes, which are folders in folders."""
    folder = root / "SUN397"
    for label, name in enumerate(classes):
        for number in range(1, per_class + 1):
            write_picture(folder / name[1:] / f"sun_a{label:04d}{number}.jpg", 10 * label + number)
    write_lines(folder / "ClassName.txt", classes)


def write_imagenet(data: Path, per_class: int = 1) -> None:
    """ImageNet's validation pictures in class folders, of all classes."""
    name = "ILSVRC2012_val_{label:05d}{number:03d}.JPEG"
    _write_class_folders(data / "imagenet/val", ImageNetInfo().label_names(), per_class, name)


def write_awa2(
    data: Path,
    matrix: Mapping[str, Sequence[float]] | None = None,
    predicates: Sequence[str] = AWA2_PREDICATES,
    test: Sequence[str] = AWA2_TEST_CLASSES,
    per_class: int = 2,
) -> Path:
    """Animals with Attributes 2; `matrix` has the predicates' numbers for each class, by default drawn by lot."""
    if matrix is None:
        numbers = np.random.default_rng(0).uniform(0, 100, (len(AWA2_CLASSES), len(predicates))).round(2)
        numbers[3, 4] = -1  # which stands for unknown
        matrix = dict(zip(AWA2_CLASSES, numbers.tolist(), strict=True))
    root = data / "Animals_with_Attributes2"
    _write_class_folders(root / "JPEGImages", list(matrix), per_class, "{name}_{number:05d}.jpg", first=10001)
    write_lines(root / "classes.txt", [f"{i:>6}\t{name}" for i, name in enumerate(matrix, start=1)])
    write_lines(root / "predicates.txt", [f"{i:>6}\t{name}" for i, name in enumerate(predicates, start=1)])
    rows = ["  ".join(f"{value:6.2f}" for value in row) for row in matrix.values()]
    write_lines(root / "predicate-matrix-continuous.txt", rows)
    write_lines(root / "testclasses.txt", test)
    write_lines(root / "trainclasses.txt", [name for name in matrix if name not in test])
    return root


def write_cub(
    data: Path,
    classes: Sequence[str],
    attributes: Sequence[str],
    *,
    is_train: Sequence[int],
    of_classes: Sequence[str],
    of_images: Sequence[str],
) -> Path:
    """CUB-200-2011.

    Args:
        data: The folder to unpack the archive into.
        classes: As in classes.txt.
        attributes: As in attributes.txt, which lies beside the folder.
        is_train: For each picture whether it is to train on; as many for each class, class by class.
        of_classes: The lines of class_attribute_labels_continuous.txt.
        of_images: The lines of image_attribute_labels.txt.
    """
    root = data / "CUB_200_2011"
    per_class = len(is_train) // len(classes)
    files = [f"{name}/{name[4:]}_{i:04d}_{i}.jpg" for name in classes for i in range(1, per_class + 1)]
    for number, file in enumerate(files, start=1):
        write_picture(root / "images" / file, number)
    write_lines(root / "images.txt", _numbered(files))
    write_lines(root / "classes.txt", _numbered(classes))
    write_lines(root / "image_class_labels.txt", _numbered([str(1 + i // per_class) for i in range(len(files))]))
    write_lines(root / "train_test_split.txt", _numbered([str(value) for value in is_train]))
    write_lines(data / "attributes.txt", _numbered(attributes))
    write_lines(root / "attributes/class_attribute_labels_continuous.txt", of_classes)
    write_lines(root / "attributes/image_attribute_labels.txt", of_images)
    return root


def write_birds(data: Path, per_class: int = 4) -> None:
    """CUB-200-2011 with all of its attributes, drawn by lot, and Reed et al.'s captions in the folder `text_c10`."""
    attributes = list(read_texts(CONF / "texts/cub.yaml"))
    pictures, generator = len(CUB_CLASSES) * per_class, np.random.default_rng(0)
    present = generator.integers(0, 2, (pictures, len(attributes)))
    certainty = generator.integers(1, 5, present.shape)
    of_images = [
        f"{image + 1} {attribute + 1} {present[image, attribute]} {certainty[image, attribute]} 1.5"
        for image in range(pictures)
        for attribute in range(len(attributes))
    ]
    shares = generator.uniform(0, 100, (len(CUB_CLASSES), len(attributes)))
    root = write_cub(
        data,
        CUB_CLASSES,
        attributes,
        is_train=[i % 2 for i in range(pictures)],
        of_classes=[" ".join(f"{share:.6f}" for share in row) for row in shares],
        of_images=of_images,
    )
    colours = ["black", "white", "brown", "grey", "red", "blue", "yellow", "green", "orange", "pink"]
    for number, file in enumerate(sorted((root / "images").rglob("*.jpg"))):
        back, belly = colours[number % 10], colours[(number // 10 + number + 1) % 10]
        captions = [f"this bird has a {back} back, a {belly} belly and a bill of kind {i}." for i in range(10)]
        write_lines(root / "text_c10" / file.relative_to(root / "images").with_suffix(".txt"), captions)


def write_simat(folder: Path) -> None:
    """SIMAT's `simat_db` after its `prepare_dataset.py` has put the images there."""
    for number, (region, triplet) in enumerate(_SIMAT_REGIONS):
        write_picture(folder / "images" / "A {} {} {}".format(*SIMAT_TRIPLETS[triplet]) / f"{region}.jpg", number)
    (folder / "transfos.csv").write_text(_SIMAT_HEADER + "\n".join(_SIMAT_ROWS) + "\n")
    triplets = [f"{region},{','.join(SIMAT_TRIPLETS[place])}" for region, place in _SIMAT_REGIONS]
    write_lines(folder / "triplets.csv", ["region_id,subj,rel,obj", *triplets])
    oracle = torch.zeros(6, 4)  # image by caption
    oracle[[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2]] = 0.9
    oracle[2, 3] = 0.6
    oracle[3, 0] = 0.5  # not over .5
    torch.save(oracle, folder / "oscar_similarity_matrix.pt")


def write_karpathy(file: Path, files: Mapping[str, str], **changes: Any) -> Path:
    """Karpathy's captions, two a picture: `files` has the split of each file, in a folder if its rows name folders."""
    rows = []
    for number, (name, split) in enumerate(files.items()):
        raw = [f"caption {number} ", "b"]
        folder, _, filename = name.rpartition("/")
        sentences = [
            {"tokens": text.split(), "raw": text, "imgid": number, "sentid": 2 * number + place}
            for place, text in enumerate(raw)
        ]
        row = {"filename": filename, "imgid": number, "split": split, "sentences": sentences}
        rows.append(row | ({"filepath": folder} if folder else {}))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"images": rows, "dataset": file.stem.partition("_")[2]} | changes))
    return file


def write_coco(data: Path) -> None:
    """COCO 2014 with Karpathy's captions, COCO's val2017, and SugarCrepe's choices between captions of it."""
    val = [f"val2014/COCO_val2014_{number:012d}.jpg" for number in (391895, 60623, 483108, 384213)]
    files = {val[0]: "test", val[1]: "test", val[2]: "test", val[3]: "val"}
    files |= {"val2014/COCO_val2014_000000005802.jpg": "restval", "train2014/COCO_train2014_000000057870.jpg": "train"}
    for number, name in enumerate(files):
        write_picture(data / "coco2014" / name, number)
    write_karpathy(data / "karpathy/dataset_coco.json", files)
    for number, name in enumerate(COCO_VAL2017):
        write_picture(data / "coco/val2017" / name, number)
    write_sugarcrepe(data / "sugarcrepe")


def write_sugarcrepe(folder: Path) -> None:
    """SugarCrepe's `data` folder."""
    for stem in SUGARCREPE_FILES:
        choices = {
            str(number): {"filename": name, "caption": f"{stem}: a {number} ", "negative_caption": f"not {number}"}
            for number, name in enumerate(COCO_VAL2017)
        }
        write_lines(folder / f"{stem}.json", [json.dumps(choices)])


def write_flickr(data: Path) -> None:
    """Flickr8k and Flickr30k with Karpathy's captions, whose rows name no folder."""
    for name in ("flickr8k", "flickr30k"):
        files = {"1000268201.jpg": "train", "1001773457.jpg": "test", "1002674143.jpg": "test", "100365.jpg": "val"}
        for number, file in enumerate(files):
            write_picture(data / name / "images" / file, number)
        write_karpathy(data / f"karpathy/dataset_{name}.json", files)


def write_own_classes(data: Path) -> None:
    """Class folders of one's own."""
    _write_class_folders(data / "mine/classes", _words("cat cow dog fox hen pig"), 2, "{number}.jpg")


def write_own_numbers(data: Path) -> None:
    """Pictures of one's own, and a CSV of their sizes, one of which is unknown."""
    for number in range(14):
        write_picture(data / f"mine/images/{number}.jpg", number)
    sizes = [f"{number}.jpg,{number / 2 if number else ''}" for number in range(14)]
    write_lines(data / "mine/numbers.csv", ["image,size", *sizes])


def _beneath(folder: str, write: Callable[..., Any], **settings: Any) -> Callable[[Path], Any]:
    return lambda data: write(data / folder, **settings)


def write_pipeline(folder: Path) -> Path:
    """A Stable Diffusion with random weights that draws 16 x 16 pixels, for text towers of width 8."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    sizes = {"block_out_channels": (8, 16), "norm_num_groups": 4}
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        in_channels=4,
        out_channels=4,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **sizes,
    )
    vae = diffusers.AutoencoderKL(
        sample_size=16,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        **sizes,
    )
    diffusers.StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


# By the first word of the configuration's name, whose pairs, texts and differences are of the same pictures
TREES: dict[str, Callable[[Path], Any]] = {
    "awa2": write_awa2,
    "cifar10": _beneath("torchvision", write_cifar10),
    # 16 shots and four more to choose the regularisation by
    "cifar100": _beneath("torchvision", write_cifar100, train=20, test=2),
    "coco": write_coco,
    "cub": write_birds,
    "dtd": _beneath("torchvision", write_dtd),
    "eurosat": _beneath("torchvision", write_eurosat),
    "flickr": write_flickr,
    "flowers102": _beneath("torchvision", write_flowers102),
    "folder": write_own_classes,
    "food101": _beneath("torchvision", write_food101),
    "generation": _beneath("stable_diffusion", write_pipeline),
    "imagenet": write_imagenet,
    "numbers": write_own_numbers,
    "pets": _beneath("torchvision", write_pets),
    "simat": _beneath("simat_db", write_simat),
    "sun397": _beneath("torchvision", write_sun397),
}


def _write_class_folders(folder: Path, classes: Sequence[str], per_class: int, file: str, first: int = 1) -> None:
    for label, name in enumerate(classes):
        for number in range(first, first + per_class):
            picture = file.format(name=name, label=label, number=number)
            write_picture(folder / name / picture, per_class * label + number)


def _numbered(names: Sequence[str]) -> list[str]:
    return [f"{number} {name}" for number, name in enumerate(names, start=1)]


def _cifar_pictures(classes: int, per_class: int) -> tuple[np.ndarray, list[int]]:
    """Pixels (N, 3072) of noise around a colour of each class, and labels."""
    labels = [label for _ in range(per_class) for label in range(classes)]
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 200, (classes, 3, 1))
    noise = generator.integers(0, 56, (len(labels), 3, 1024))
    return (colours[labels] + noise).reshape(len(labels), 3072).astype(np.uint8), labels


def _pickle(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(content, protocol=2))
