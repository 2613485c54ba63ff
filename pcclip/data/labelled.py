"""Read evaluation images: a folder of images, a folder of class folders, or webdataset tars with labels."""

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from pcclip.data.picture_files import COPIES, Skipped, is_picture
from pcclip.data.pictures import PICTURE_EXTENSIONS, UnreadableImageError, decode


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image: its location, its key in tables, and its class, if any.

    Attributes:
        path: The image file, or the tar that holds it.
        key: File name (with its class folder, if any), or the key of the sample in the tar.
        label: Index into the classes of the set, or None.
        offset: Position of the image's bytes in the tar; None for a plain file.
        size: Number of bytes in the tar.
    """

    path: str
    key: str
    label: int | None = None
    offset: int | None = None
    size: int = 0

    def read(self) -> bytes:
        """Return the image's bytes."""
        with Path(self.path).open("rb") as stream:
            if self.offset is None:
                return stream.read()
            stream.seek(self.offset)
            return stream.read(self.size)

    def decode(self, within: int | None = None) -> Image.Image:
        """Return the image upright in RGB. If `within` is given, its longest side has at most that many pixels.

        Raises:
            UnreadableImageError: The image is missing or damaged; see `pcclip.data.pictures.decode`.
        """
        if not Path(self.path).is_file():
            raise UnreadableImageError(self.key, "not found, or not a file")
        try:
            payload = self.read()
        except OSError as error:
            raise UnreadableImageError(self.key, error.strerror or str(error)) from error
        return decode(payload, self.key, within=within)


class Picture(Protocol):
    """A picture that is decoded on demand."""

    @property
    def key(self) -> str:
        """Name for users: the path; for a picture in a shard, the shard's path and the member's name."""
        ...

    def decode(self, within: int | None = None) -> Image.Image:
        """Return the picture upright in RGB.

        The caller needs at most `within` pixels on the longest side. The result may be larger.

        Raises:
            UnreadableImageError: The picture cannot be read.
        """
        ...


def decoded(picture: Picture, within: int | None = None) -> Image.Image | None:
    """Return the picture upright in RGB, or None if it cannot be read. For `within` see `Picture.decode`."""
    try:
        return picture.decode(within)
    except UnreadableImageError:
        return None


@dataclass(frozen=True)
class ImageSet:
    """Images in a fixed order, and the names of their classes; no classes for a flat folder."""

    source: Path
    images: list[ImageFile]
    classes: list[str]


def read_images(source: str | Path) -> ImageSet:
    """List the images of a folder, class folders or tars, without decoding them.

    Args:
        source: One of

            - A folder of images. The key is the file name.
            - A folder of class folders. Classes are sorted by name; the key is `class/file`. Folders without images are no
              classes, and a warning names them.
            - A tar, or a folder of tars, in CLIP_benchmark's webdataset layout: an image for each sample, and `.cls` if it is
              labelled. The key is the key of the sample. `classnames.txt`, one name a line, is in the folder or its parent.
              `nshards.txt` is the expected number of tars. A warning counts other members.

    Raises:
        FileNotFoundError: The source does not exist, or labelled tars have no `classnames.txt`.
        ValueError: No image, images next to class folders, a label that is no index into the classes, or another number of
            tars than in `nshards.txt`.
    """
    from lightning.pytorch.utilities import rank_zero_warn  # here: the tools need no Lightning

    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(
            f"{source}: evaluation images not found; give a folder of images, class folders or tars"
        )
    tars = [source] if source.is_file() else sorted(source.glob("*.tar"))
    _check_shards(source, tars)
    if tars:
        return _read_tars(source, tars)
    skipped = Skipped()
    flat = _images_in(source, skipped)
    inside = {
        folder: _images_in(folder, skipped)
        for folder in sorted(source.iterdir())
        if folder.is_dir() and not (folder / COPIES).exists()
    }
    if skipped:
        rank_zero_warn(f"{source}: skipped {skipped}")
    folders = [folder for folder, files in inside.items() if files]
    if flat and folders:
        raise ValueError(
            f"{source}: has images next to class folders ({folders[0].name}, ...); keep only one of the two"
        )
    if flat:
        return ImageSet(source, [ImageFile(str(file), file.name) for file in flat], [])
    images = [
        ImageFile(str(file), f"{folder.name}/{file.name}", label)
        for label, folder in enumerate(folders)
        for file in inside[folder]
    ]
    if not images:
        raise ValueError(
            f"{source}: no images ({', '.join(PICTURE_EXTENSIONS)}), class folders with images or tars in it; check the path"
        )
    # Hidden folders are never classes.
    if bare := [folder.name for folder, files in inside.items() if not files and not folder.name.startswith(".")]:
        rank_zero_warn(
            f"{source}: {len(bare)} of {len(folders) + len(bare)} folders have no image and are left out as classes: "
            f"{', '.join(bare[:5])}; with fewer classes to choose among, classification is easier"
        )
    return ImageSet(source, images, [folder.name for folder in folders])


def _images_in(folder: Path, skipped: Skipped) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if not file.name.startswith(".") and not file.is_dir())
    return [file for file in files if is_picture(str(file), skipped)]


def _check_shards(source: Path, tars: Sequence[Path]) -> None:
    """Check that the number of tars is the one in `nshards.txt`."""
    file = source / "nshards.txt"  # CLIP_benchmark writes it next to the tars of each split
    if not file.is_file():
        return
    content = file.read_text(encoding="utf-8").strip()
    if not content.isdecimal():
        raise ValueError(f"{file}: holds {content[:20]!r}, expected the number of tars next to it; copy it again")
    if int(content) != len(tars):
        raise ValueError(
            f"{source}: {len(tars)} tars, but its nshards.txt says {int(content)}; copy the dataset again, or correct "
            "nshards.txt if only these are wanted"
        )


def _read_tars(source: Path, tars: Sequence[Path]) -> ImageSet:
    from lightning.pytorch.utilities import rank_zero_warn  # here: the tools need no Lightning

    images: list[ImageFile] = []
    skipped = Skipped()
    for tar in tars:
        members: dict[str, tuple[int, int]] = {}
        labels: dict[str, int] = {}
        try:
            with tarfile.open(tar, "r:") as archive:
                for member in archive:
                    # webdataset's convention: the key ends at the first dot of the base name
                    folder, slash, name = member.name.rpartition("/")
                    stem, _, extension = name.partition(".")
                    if not member.isfile():
                        continue
                    if extension.lower() in PICTURE_EXTENSIONS:
                        members[folder + slash + stem] = (member.offset_data, member.size)
                    elif extension == "cls":
                        content = archive.extractfile(member)
                        labels[folder + slash + stem] = _label(content.read() if content else b"", tar, member.name)
                    else:
                        skipped[f".{extension}" if extension else "without extension"] += 1
        except tarfile.TarError as error:
            raise ValueError(f"{tar}: not a readable tar ({error}); copy it again") from error
        images += [ImageFile(str(tar), key, labels.get(key), *place) for key, place in members.items()]
    if skipped:
        rank_zero_warn(f"{source}: skipped {skipped}")
    if not images:
        raise ValueError(
            f"{source}: no image ({', '.join(PICTURE_EXTENSIONS)}) in its {len(tars)} tars; check the path"
        )
    if 0 < len(unlabelled := [f"{image.path}: {image.key}" for image in images if image.label is None]) < len(images):
        raise ValueError(f"{source}: samples {unlabelled[:5]} have an image but no .cls; label all images or none")
    classes = _class_names(source) if images[0].label is not None else []
    for image in images:
        if image.label is not None and not 0 <= image.label < len(classes):
            raise ValueError(
                f"{image.path}: sample {image.key} has label {image.label}, but classnames.txt names {len(classes)} classes"
            )
    return ImageSet(source, images, classes)


def _label(content: bytes, tar: Path, member: str) -> int:
    try:
        return int(content)
    except ValueError as error:
        raise ValueError(f"{tar}: {member} holds {content[:20]!r}, expected a class index") from error


def _class_names(source: Path) -> list[str]:
    folder = source.parent if source.is_file() else source
    for file in (folder / "classnames.txt", folder.resolve().parent / "classnames.txt"):
        if file.is_file():
            names = [line.strip() for line in file.read_text(encoding="utf-8").rstrip().splitlines()]
            if "" in names:
                raise ValueError(
                    f"{file}: line {names.index('') + 1} is empty; a label is the number of its line, name its class"
                )
            if len(set(names)) != len(names):
                raise ValueError(f"{file}: the same class name twice; zero-shot cannot distinguish them, rename one")
            return names
    raise FileNotFoundError(
        f"{folder}: labelled tars need classnames.txt in {folder} or its parent; write one class name a line, in label order"
    )
