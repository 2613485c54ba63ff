"""ImageNet's pictures: in class folders, or in one folder and called by their class."""

from dataclasses import dataclass, replace
from pathlib import Path

import open_clip

from pcclip.data.labelled import ImageFile, ImageSet, read_images
from pcclip.datasets.sources import ImageSource, warn_unless_whole
from pcclip.datasets.tables import read_table
from pcclip.paths import existing_folder, read_text

# open_clip calls two pairs of classes alike; texts cannot tell these apart, so one of each has WordNet's other name.
RENAMED = {657: "missile", 744: "projectile", 836: "sunglass", 837: "sunglasses"}
PICTURES = 50_000  # for validation
REMEDY = (
    "download ILSVRC2012_img_val.tar (image-net.org, registration needed), sort its pictures into one folder a class "
    "(n01440764/, ...), and give the folder that these are in"
)


@dataclass(frozen=True)
class ImageNet(ImageSource):
    """A folder of class folders that are called by WordNet ids."""

    root: str
    """The folder, with all 1,000 classes unless `synsets` says which there are."""
    synsets: str | None = None
    """The 1,000 ids in the order of the classes, at the beginning of a line each, such as Kaggle's LOC_synset_mapping.txt;
    needed only when some classes are not there."""

    def read(self) -> ImageSet:
        """List the pictures; classes are called as in open_clip.

        Without `synsets`, another number of pictures than there are for validation gets a warning.
        """
        root = existing_folder(self.root, "ImageNet", REMEDY)
        found = read_images(self.root)
        ids = self._ids(found.classes)
        if unknown := [name for name in found.classes if name not in ids]:
            raise ValueError(f"{self.root}: {unknown[:5]} are not ids of ImageNet's classes; {REMEDY}")
        if self.synsets is None:  # else some classes are meant to be missing
            warn_unless_whole(self.root, len(found.images), PICTURES)
        names = [RENAMED.get(place, name) for place, name in enumerate(open_clip.IMAGENET_CLASSNAMES)]
        chosen = [names[ids.index(name)] for name in found.classes]
        return ImageSet(root, [ImageFile(i.path, i.key, i.label) for i in found.images], chosen)

    def _ids(self, folders: list[str]) -> list[str]:
        total = len(open_clip.IMAGENET_CLASSNAMES)
        if self.synsets is None:
            if len(folders) != total:
                raise ValueError(
                    f"{self.root}: {len(folders)} class folders with pictures, expected {total}; {REMEDY}, or say with "
                    "`synsets` (LOC_synset_mapping.txt) which classes these are"
                )
            return folders  # sorted, as the classes are
        text = read_text(self.synsets, "list of WordNet ids", "take LOC_synset_mapping.txt of Kaggle's ImageNet")
        ids = [line.split()[0] for line in text.splitlines() if line.strip()]
        if len(ids) != total or ids != sorted(set(ids)):
            raise ValueError(f"{self.synsets}: {len(ids)} lines, expected the {total} WordNet ids, sorted, each once")
        return ids


@dataclass(frozen=True)
class NamedBySynset(ImageSource):
    """Pictures called `n01440764_18.jpg` and so on, as ImageNet's training pictures are, in one folder or in tars."""

    images: str
    """The folder of pictures, or of tars."""
    table: str
    """CSV or JSON Lines with a row for each class: its WordNet id `wnid` and its `name`. Classes keep the order of the rows."""

    def read(self) -> ImageSet:
        """List the pictures."""
        found = read_images(self.images)
        names = read_table(self.table, "wnid").texts("name")
        if bare := [synset for synset, name in names.items() if not name]:
            raise ValueError(f'{self.table}: no "name" of {bare[:5]}; name all classes')
        place = {synset: index for index, synset in enumerate(names)}
        synsets = [Path(image.key).name.partition("_")[0] for image in found.images]
        if unknown := sorted({synset for synset in synsets if synset not in place}):
            raise ValueError(
                f"{self.images}: pictures are called after {unknown[:5]}, which are no `wnid` in {self.table}"
            )
        images = [replace(image, label=place[synset]) for image, synset in zip(found.images, synsets, strict=True)]
        return ImageSet(found.source, images, list(names.values()))
