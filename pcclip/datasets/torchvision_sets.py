"""torchvision's labelled datasets as evaluation images."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from torchvision import datasets

from pcclip.data.labelled import ImageFile, ImageSet
from pcclip.datasets.sources import ImageSource, warn_unless_whole

TorchvisionName = Literal["CIFAR10", "CIFAR100", "DTD", "EuroSAT", "Flowers102", "Food101", "OxfordIIITPet", "SUN397"]
# Number of images. torchvision has lists of files for the other datasets, but takes any files of these two.
WITHOUT_SPLITS = {"EuroSAT": 27_000, "SUN397": 108_754}


@dataclass(frozen=True)
class CifarImage(ImageFile):
    """The image with index `offset` in CIFAR. All images are in a few files; `path` is the first file."""

    dataset: Any = field(default=None, compare=False, repr=False)

    def decode(self, within: int | None = None) -> Image.Image:
        """Return the image in RGB, always at its full size of 32 x 32 pixels."""
        return self.dataset[self.offset][0]


@dataclass(frozen=True)
class Torchvision(ImageSource):
    """One of torchvision's datasets."""

    name: TorchvisionName
    """Name of the class in `torchvision.datasets`."""
    root: str
    """Folder of torchvision's files."""
    split: str | None = None
    """Split, as torchvision names it (`train` or `test` for CIFAR). EuroSAT and SUN397 have no splits."""
    download: bool = False
    """Let torchvision download missing files."""
    names: dict[str, str] = field(default_factory=dict)
    """torchvision's class names to other names, e.g. `{AnnualCrop: annual crop land}`. In other class names, underscores
    become spaces."""

    def __post_init__(self) -> None:
        if (self.split is None) != (self.name in WITHOUT_SPLITS):
            kind = "no" if self.name in WITHOUT_SPLITS else "a"
            raise ValueError(f"Torchvision: {self.name} has {kind} split; correct `split`")

    def read(self) -> ImageSet:
        """List the images in torchvision's order.

        A warning says if the number of images of EuroSAT or SUN397 is not the published one.

        Raises:
            FileNotFoundError: The dataset, or an image that it lists, is missing.
        """
        dataset = self._dataset()
        own = list(dataset.classes)
        if unknown := sorted(set(self.names) - set(own)):
            raise ValueError(
                f"Torchvision {self.name}: `names` has unknown classes {unknown[:5]}; the dataset has {own[:5]} and so on"
            )
        classes = [self.names.get(name, name.replace("_", " ")) for name in own]
        if len(set(classes)) < len(classes):
            raise ValueError(f"Torchvision {self.name}: `names` gives two classes the same name")
        labels = dataset.targets if hasattr(dataset, "targets") else dataset._labels
        if self.name in WITHOUT_SPLITS:
            warn_unless_whole(f"{self.root}, {self.name}", len(labels), WITHOUT_SPLITS[self.name])
        images = self._images(dataset, [int(label) for label in labels])
        if missing := [image.path for image in images if not Path(image.path).is_file()]:
            raise FileNotFoundError(
                f"{self.root}: {len(missing)} of {len(images)} pictures of {self.name} are missing: {missing[:3]}; unpack the "
                "archive again, or download it again"
            )
        return ImageSet(Path(self.root), images, classes)

    def _images(self, dataset: Any, labels: list[int]) -> list[ImageFile]:
        keys = [f"{self.name}/{self.split or 'all'}/{place:06d}" for place in range(len(labels))]
        if self.name.startswith("CIFAR"):
            parts = dataset.train_list if self.split == "train" else dataset.test_list
            file = str(Path(self.root) / dataset.base_folder / parts[0][0])
            return [
                CifarImage(file, key, label, place, dataset=dataset)
                for place, (key, label) in enumerate(zip(keys, labels, strict=True))
            ]
        if self.name == "EuroSAT":
            files = [file for file, _ in dataset.samples]
        else:
            files = dataset._images if self.name == "OxfordIIITPet" else dataset._image_files
        return [ImageFile(str(file), key, label) for file, key, label in zip(files, keys, labels, strict=True)]

    def _dataset(self) -> Any:
        settings: dict[str, Any] = {"root": self.root, "download": self.download}
        if self.name.startswith("CIFAR"):
            if self.split not in ("train", "test"):
                raise ValueError(f"Torchvision {self.name}: split {self.split!r}; it has train and test")
            settings["train"] = self.split == "train"
        elif self.split is not None:
            settings["split"] = self.split
        try:
            return getattr(datasets, self.name)(**settings)
        except (RuntimeError, OSError) as error:
            raise FileNotFoundError(
                f"{self.root}: torchvision does not find {self.name} there ({error}); set `download: true`, or put the files "
                "there as torchvision's documentation describes"
            ) from error
