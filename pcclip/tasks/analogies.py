"""Analogies between classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from pcclip.datasets.tables import read_table
from pcclip.metrics.analogies import analogies, attribute_quadruples
from pcclip.metrics.protocol import Metric
from pcclip.metrics.zero_shot import class_embeddings
from pcclip.tasks.classes import ClassTask, class_means, read_templates
from pcclip.tasks.task import Context


@dataclass(kw_only=True)
class Analogies(ClassTask):
    """Analogies between classes that are known by two attributes, such as shape and colour (`pcclip.metrics.analogies`)."""

    kind: ClassVar[str] = "analogies"
    templates: list[str] | str
    """Sentences with `{}` for the class name, whose embeddings are averaged; or `openai`, `simple`, or a file."""
    columns: tuple[str, str]
    """The two columns of `table` with the attributes."""

    def prepare(self) -> None:
        """List the images and find the analogies."""
        self._templates = read_templates(self.templates, self.title)
        if self.table is None:
            raise ValueError(f"{self.title}: `table` is missing; its `columns` name the attributes of the classes")
        self._labelled = self.labelled()
        table = read_table(self.table, self.name_column, self.where)
        first, second = self.columns
        rows, columns = table.texts(first), table.texts(second)
        try:
            self._quadruples = attribute_quadruples([(rows[name], columns[name]) for name in self._labelled.classes])
        except ValueError as error:
            raise ValueError(f"{self.table}: {error}") from error
        if not self._quadruples:
            raise ValueError(
                f"{self.table}: no four classes of {self.title} differ in {first} and {second} as an analogy needs"
            )

    def measure(self, context: Context) -> Iterable[Metric]:
        """Measure class texts and the means of the intact images."""
        labelled = self._labelled
        embeddings, kept = context.embed(labelled.images)
        return analogies(
            class_embeddings(context.encoder, labelled.classes, self._templates),
            class_means(embeddings, labelled.labels[kept], labelled.classes),
            self._quadruples,
            bootstrap=context.bootstrap,
        )
