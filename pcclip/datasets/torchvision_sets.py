"""torchvision's labelled datasets as evaluation images."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from torchvision import datasets

from pcclip.data.labelled import ImageFile, ImageSet
from pcclip.datasets.sources import ImageSource, warn_unless_whole

TorchvisionName = Literal["CIFAR10", "CIFAR100", "DTD", "EuroSAT", "Flowers102", "Food101", "OxfordIIITPet", "SUN397"]
# Pictures of those that have no splits: torchvision takes whatever lies there, but has lists of the others' files
WITHOUT_SPLITS = {"EuroSAT": 27_000, "SUN397": 108_754}


@dataclass(frozen=True)
class CifarImage(ImageFile):
    """The image at place `offset` of CIFAR. All images are in a few files; `path` is the first of them."""

    dataset: Any = field(default=None, compare=False, repr=False)

    def decode(self, within: int | None = None) -> Image.Image:
        """Return the image in RGB, always at its full size of 32 x 32 pixels."""
        image: Image.Image = self.dataset[self.offset][0]
        return image


@dataclass(frozen=True)
class Torchvision(ImageSource):
    """One of torchvision's datasets."""

    name: TorchvisionName
    """torchvision's name of it."""
    root: str
    """Where torchvision keeps, or puts, its files."""
    split: str | None = None
    """torchvision's name of the split (`train` or `test` for CIFAR). EuroSAT and SUN397 have none."""
    download: bool = False
    """Let torchvision download it if it is not there."""
    names: dict[str, str] = field(default_factory=dict)
    """Names to use in place of torchvision's, e.g. `{AnnualCrop: annual crop land}`. In all others, underscores become
    spaces."""

    def __post_init__(self) -> None:
        if (self.split is None) != (self.name in WITHOUT_SPLITS):
            kind = "no" if self.name in WITHOUT_SPLITS else "a"
            raise ValueError(f"Torchvision: {self.name} has {kind} split; correct `split`")

    def read(self) -> ImageSet:
        """List the images, in torchvision's order.

        Another number of them than EuroSAT or SUN397 has gets a warning.

        Raises:
            FileNotFoundError: The dataset is not there, or pictures that it lists are not.
        """
        dataset = self._dataset()
        own = list(dataset.classes)
        if unknown := sorted(set(self.names) - set(own)):
            raise ValueError(
                f"Torchvision {self.name}: `names` has {unknown[:5]}, which it does not; it has {own[:5]} ..."
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
                f"{self.root}: {len(missing)} of {len(images)} pictures of {self.name} are missing: {missing[:3]}; an "
                "extraction may have broken off: unpack the archive again, or download it again"
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
                f"{self.root}: torchvision does not find {self.name} there ({error}); set `download: true` where there is a "
                "network, or put its files there as torchvision's documentation says"
            ) from error
