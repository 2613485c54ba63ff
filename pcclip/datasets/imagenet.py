"""Images of ImageNet: in class folders, or in one folder with the class in the file name."""

from dataclasses import dataclass, replace
from pathlib import Path

import open_clip

from pcclip.data.labelled import ImageSet, read_images
from pcclip.datasets.sources import ImageSource, warn_unless_whole
from pcclip.datasets.tables import read_table
from pcclip.paths import existing_folder

# open_clip gives two pairs of classes the same name. One class of each pair gets another WordNet name, so that texts differ.
RENAMED = {657: "missile", 744: "projectile", 836: "sunglass", 837: "sunglasses"}
PICTURES = 50_000  # of the validation set
REMEDY = (
    "download ILSVRC2012_img_val.tar (image-net.org, registration needed), sort its pictures into one folder a class "
    "(n01440764/, ...), and give the folder that these are in"
)


@dataclass(frozen=True)
class ImageNet(ImageSource):
    """A folder of class folders that are named by WordNet ids."""

    root: str
    """The folder. It has all 1,000 classes."""

    def read(self) -> ImageSet:
        """List the images. Class names are those of open_clip.

        A warning says if the number of images is not that of the validation set.
        """
        root = existing_folder(self.root, "ImageNet", REMEDY)
        found = read_images(self.root)
        names = [RENAMED.get(place, name) for place, name in enumerate(open_clip.IMAGENET_CLASSNAMES)]
        if len(found.classes) != len(names):  # both are sorted by id
            raise ValueError(
                f"{self.root}: {len(found.classes)} class folders with pictures, expected {len(names)}; {REMEDY}"
            )
        warn_unless_whole(self.root, len(found.images), PICTURES)
        return ImageSet(root, found.images, names)


@dataclass(frozen=True)
class NamedBySynset(ImageSource):
    """Images named `n01440764_18.jpg` and so on, like the training images of ImageNet, in one folder or in tars."""

    images: str
    """The folder of images or tars."""
    table: str
    """CSV, JSON Lines or Parquet with a row for each class: its WordNet id `wnid` and its `name`. Classes keep the order of
    the rows."""

    def read(self) -> ImageSet:
        found = read_images(self.images)
        names = read_table(self.table, "wnid").texts("name")
        if bare := [synset for synset, name in names.items() if not name]:
            raise ValueError(f'{self.table}: no "name" of {bare[:5]}; name all classes')
        place = {synset: index for index, synset in enumerate(names)}
        synsets = [Path(image.key).name.partition("_")[0] for image in found.images]
        if unknown := sorted({synset for synset in synsets if synset not in place}):
            raise ValueError(f"{self.images}: pictures are named by {unknown[:5]}, but {self.table} has no such `wnid`")
        images = [replace(image, label=place[synset]) for image, synset in zip(found.images, synsets, strict=True)]
        return ImageSet(found.source, images, list(names.values()))
