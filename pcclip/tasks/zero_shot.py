"""Zero-shot classification."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from pcclip.datasets.tables import read_table
from pcclip.metrics.protocol import Metric
from pcclip.metrics.zero_shot import DESCRIPTION, zero_shot
from pcclip.paths import existing_file
from pcclip.tasks.classes import ClassTask, read_templates
from pcclip.tasks.task import Context


@dataclass(kw_only=True)
class ZeroShot(ClassTask):
    """Zero-shot classification (`pcclip.metrics.zero_shot`)."""

    kind: ClassVar[str] = "zero_shot"
    templates: list[str] | str
    """Sentences with `{}` for the class name, whose embeddings are averaged; or `openai`, `simple`, or a file."""
    descriptions: str | None = None
    """CSV or JSON Lines with a sentence on each class, in the columns `name_column` and `description`. Templates have it at
    `{description}` ("extended prompts")."""

    def prepare(self) -> None:
        """List the images, choose the classes, and read their descriptions."""
        self._templates = read_templates(self.templates, self.title)
        extended = any(DESCRIPTION in template for template in self._templates)
        if extended != (self.descriptions is not None):
            raise ValueError(
                f"{self.title}: `descriptions` and a template with {DESCRIPTION} go together; give both or neither"
            )
        self._labelled = self.labelled()
        self._descriptions = self._read_descriptions(self.descriptions) if self.descriptions is not None else {}

    def _read_descriptions(self, file: str) -> dict[str, str]:
        remedy = "`pcclip-data class_texts --classes` writes them, or check the path"
        table = read_table(existing_file(file, "descriptions of classes", remedy), self.name_column)
        found = {name: text.strip() for name, text in table.texts("description").items()}
        if bare := [name for name in self._labelled.classes if not found.get(name)]:
            raise ValueError(f"{file}: no description of {len(bare)} classes of {self.title}: {bare[:5]}; write them")
        return found

    def measure(self, context: Context) -> Iterable[Metric]:
        """Measure the intact images."""
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
