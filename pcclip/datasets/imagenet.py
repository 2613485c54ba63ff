"""Images of ImageNet: in class folders, or in one folder with the class in the file name."""

from dataclasses import dataclass, replace
from pathlib import Path

import open_clip

from pcclip.data.labelled import ImageFile, ImageSet, read_images
from pcclip.datasets.sources import ImageSource, warn_unless_whole
from pcclip.datasets.tables import read_table
from pcclip.paths import existing_folder, read_text

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
    """The folder. It has all 1,000 classes, unless `synsets` is given."""
    synsets: str | None = None
    """File with the 1,000 WordNet ids, sorted, one at the beginning of each line, such as Kaggle's LOC_synset_mapping.txt. It
    is needed only if some classes are missing."""

    def read(self) -> ImageSet:
        """List the images. Class names are those of open_clip.

        Without `synsets`, a warning says if the number of images is not that of the validation set.
        """
        root = existing_folder(self.root, "ImageNet", REMEDY)
        found = read_images(self.root)
        ids = self._ids(found.classes)
        if unknown := [name for name in found.classes if name not in ids]:
            raise ValueError(f"{self.root}: {unknown[:5]} are not ids of ImageNet's classes; {REMEDY}")
        if self.synsets is None:  # otherwise some classes are missing on purpose
            warn_unless_whole(self.root, len(found.images), PICTURES)
        names = [RENAMED.get(place, name) for place, name in enumerate(open_clip.IMAGENET_CLASSNAMES)]
        chosen = [names[ids.index(name)] for name in found.classes]
        return ImageSet(root, [ImageFile(i.path, i.key, i.label) for i in found.images], chosen)

    def _ids(self, folders: list[str]) -> list[str]:
        total = len(open_clip.IMAGENET_CLASSNAMES)
        if self.synsets is None:
            if len(folders) != total:
                raise ValueError(
                    f"{self.root}: {len(folders)} class folders with pictures, expected {total}; {REMEDY}. If classes are "
                    "missing on purpose, give `synsets` (LOC_synset_mapping.txt)"
                )
            return folders  # both folders and classes are sorted by id
        text = read_text(self.synsets, "list of WordNet ids", "download LOC_synset_mapping.txt of Kaggle's ImageNet")
        ids = [line.split()[0] for line in text.splitlines() if line.strip()]
        if len(ids) != total or ids != sorted(set(ids)):
            raise ValueError(f"{self.synsets}: {len(ids)} lines, expected the {total} WordNet ids, sorted, each once")
        return ids


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
