"""Tasks on labelled images: the choice of classes and images, zero-shot classification and analogies."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import open_clip
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.data.labelled import ImageFile
from pcclip.datasets.sources import ImageSource, open_images
from pcclip.datasets.tables import read_table
from pcclip.metrics.arithmetic import analogies, attribute_quadruples
from pcclip.metrics.protocol import Metric
from pcclip.metrics.zero_shot import DESCRIPTION, class_embeddings, zero_shot
from pcclip.paths import existing_file
from pcclip.tasks.task import Context, Task

NAME_COLUMN = "name"  # of a table of classes
ENSEMBLES = {"openai": open_clip.OPENAI_IMAGENET_TEMPLATES, "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES}


@dataclass
class LabelledImages:
    """Images of the chosen classes."""

    known: list[str]
    """All classes of the source."""
    classes: list[str]
    """The chosen classes."""
    images: list[ImageFile]
    """N images of the chosen classes."""
    labels: Tensor
    """Index into `classes` of each image, (N,)."""


@dataclass(kw_only=True)
class ClassTask(Task):
    """A task on images with labels."""

    images: str | ImageSource
    """Labelled images: a folder of class folders, a folder of tars with `classnames.txt`, a dataset of `pcclip.datasets` by
    `class_path`, or a file of `conf/datasets`."""
    classes: list[str] | str | None = None
    """Classes to choose among; only their images are judged. A list, or a file with one name a line. All by default."""
    table: str | None = None
    """CSV, JSON Lines or Parquet with a row for each class, by its `name`, in place of `classes`."""
    where: dict[str, str] | None = None
    """Keep only rows of the table with these values, e.g. `{split: train}`."""

    def labelled(self) -> LabelledImages:
        """List the images and choose the classes; see `read_labelled`.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: Both `classes` and `table` are given, `where` without a `table`, or as `read_labelled`.
        """
        return read_labelled(self.title, self.images, self._chosen_classes())

    def _chosen_classes(self) -> tuple[list[str] | None, str]:
        """Return the classes to choose among, or None for all, and where they were named."""
        if self.table is not None:
            if self.classes is not None:
                raise ValueError(f"{self.title}: give `classes` or `table`, not both")
            return read_table(self.table, NAME_COLUMN, self.where).keys, self.table
        if self.where is not None:
            raise ValueError(f"{self.title}: `where` filters the rows of a `table`; give one, or leave it out")
        if self.classes is None or isinstance(self.classes, list):
            return self.classes, f"{self.title}, `classes`"
        lines = existing_file(self.classes, "class names").read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip()], self.classes


def read_labelled(
    title: str, source: str | ImageSource, chosen: tuple[list[str] | None, str] = (None, "")
) -> LabelledImages:
    """List the images of chosen classes.

    Args:
        title: Name of the task, for messages.
        source: Labelled images; see `open_images`.
        chosen: The classes, None for all, and where they were named.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: Images without labels; or a class name that is unknown or given twice, or fewer than two.
    """
    image_set = open_images(source)
    if not image_set.classes:
        raise ValueError(f"{image_set.source}: images without labels; {title} needs class folders or .cls")
    classes, named_in = chosen
    if classes is None:
        classes, named_in = image_set.classes, str(image_set.source)
    if unknown := [name for name in classes if name not in image_set.classes]:
        raise ValueError(
            f"{named_in}: unknown classes {unknown[:5]}; {image_set.source} has {image_set.classes[:5]} and so on "
            f"({len(image_set.classes)})"
        )
    if len(set(classes)) < max(2, len(classes)):
        raise ValueError(f"{named_in}: {title} needs at least two classes, each named once")
    new_label = {image_set.classes.index(name): label for label, name in enumerate(classes)}
    images = [image for image in image_set.images if image.label in new_label]
    if not images:
        raise ValueError(f"{image_set.source}: no image of the classes that {title} chooses")
    labels = torch.tensor([new_label[image.label] for image in images if image.label is not None])
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    if bare := [name for name, count in zip(classes, counts, strict=True) if count == 0]:
        rank_zero_warn(
            f"{title}: {len(bare)} of {len(classes)} classes have no image in {image_set.source}: {', '.join(bare[:5])}; "
            "they remain candidates"
        )
    return LabelledImages(image_set.classes, classes, images, labels)


def read_templates(templates: list[str] | str, title: str) -> list[str]:
    """Return the templates of a task.

    Args:
        templates: Sentences with `{}` for the class name; or `openai` or `simple`, open_clip's ensembles of 80 and 7
            templates; or a file with one template a line, with `{}` or, as in CLIP_benchmark, `{c}`.
        title: Name of the task, for messages.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: There is no template, or a template lacks the class name.
    """
    if isinstance(templates, str):
        if templates in ENSEMBLES:
            return [template("{}") for template in ENSEMBLES[templates]]
        file = existing_file(templates, "templates", f"or give {', '.join(ENSEMBLES)}, or a list")
        lines = file.read_text(encoding="utf-8").splitlines()
        templates = [line.strip().replace("{c}", "{}") for line in lines if line.strip()]
    if bad := [template for template in templates if "{}" not in template]:
        raise ValueError(f"{title}: templates {bad} have no {{}} for the class name")
    if not templates:
        raise ValueError(f'{title}: no templates; give at least one, e.g. "a photo of a {{}}"')
    return templates


def class_means(embeddings: Tensor, labels: Tensor, classes: list[str]) -> Tensor:
    """Return the normalised mean embedding of each class's images, (C, D).

    Args:
        embeddings: Unit image embeddings, (N, D).
        labels: Index into `classes` of each image, (N,).
        classes: Names of the classes.

    Raises:
        ValueError: A class has no image.
    """
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    if empty := [name for name, count in zip(classes, counts, strict=True) if count == 0]:
        raise ValueError(f"classes {empty[:5]} have no (intact) image; add some, or leave the classes out")
    sums = embeddings.new_zeros(len(classes), embeddings.shape[1])
    return normalize(sums.index_add_(0, labels.to(embeddings.device), embeddings), dim=-1)


@dataclass(kw_only=True)
class TemplateTask(ClassTask):
    """A task on images with labels and on texts of their classes."""

    templates: list[str] | str
    """Sentences with `{}` for the class name, whose embeddings are averaged; or `openai`, `simple`, or a file."""

    def prepare(self) -> None:
        self._templates = read_templates(self.templates, self.title)
        self._labelled = self.labelled()


@dataclass(kw_only=True)
class ZeroShot(TemplateTask):
    """Zero-shot classification (`pcclip.metrics.zero_shot`)."""

    kind: ClassVar[str] = "zero_shot"
    descriptions: str | None = None
    """CSV, JSON Lines or Parquet with a sentence about each class, in the columns `name` and `description`. It replaces
    `{description}` in the templates ("extended prompts")."""

    def prepare(self) -> None:
        super().prepare()
        extended = any(DESCRIPTION in template for template in self._templates)
        if extended != (self.descriptions is not None):
            raise ValueError(
                f"{self.title}: `descriptions` and a template with {DESCRIPTION} go together; give both or neither"
            )
        self._descriptions = self._read_descriptions(self.descriptions) if self.descriptions is not None else {}

    def _read_descriptions(self, file: str) -> dict[str, str]:
        remedy = "`pcclip-data class_texts --classes` writes them, or check the path"
        table = read_table(existing_file(file, "descriptions of classes", remedy), NAME_COLUMN)
        found = {name: text.strip() for name, text in table.texts("description").items()}
        if bare := [name for name in self._labelled.classes if not found.get(name)]:
            raise ValueError(f"{file}: no description of {len(bare)} classes of {self.title}: {bare[:5]}; write them")
        return found

    def measure(self, context: Context) -> Iterable[Metric]:
        labelled = self._labelled
        embeddings, kept = context.embed(labelled.images)
        return zero_shot(
            context.encoder,
            embeddings,
            labelled.labels[kept],
            labelled.classes,
            self._templates,
            descriptions=self._descriptions,
            bootstrap=context.bootstrap,
        )


@dataclass(kw_only=True)
class Analogies(TemplateTask):
    """Analogies between classes that are known by two attributes, such as shape and colour (`pcclip.metrics.arithmetic`)."""

    kind: ClassVar[str] = "analogies"
    columns: tuple[str, str]
    """The two columns of `table` with the attributes."""

    def prepare(self) -> None:
        super().prepare()
        if self.table is None:
            raise ValueError(f"{self.title}: `table` is missing; its `columns` name the attributes of the classes")
        table = read_table(self.table, NAME_COLUMN, self.where)
        first, second = self.columns
        rows, columns = table.texts(first), table.texts(second)
        try:
            self._quadruples = attribute_quadruples([(rows[name], columns[name]) for name in self._labelled.classes])
        except ValueError as error:
            raise ValueError(f"{self.table}: {error}") from error
        if not self._quadruples:
            raise ValueError(
                f"{self.table}: no four classes of {self.title} form an analogy by their {first} and {second}"
            )

    def measure(self, context: Context) -> Iterable[Metric]:
        labelled = self._labelled
        embeddings, kept = context.embed(labelled.images)
        return analogies(
            class_embeddings(context.encoder, labelled.classes, self._templates),
            class_means(embeddings, labelled.labels[kept], labelled.classes),
            self._quadruples,
            bootstrap=context.bootstrap,
        )
