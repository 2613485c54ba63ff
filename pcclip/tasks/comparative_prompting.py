"""Zero-shot classification with texts that say how classes differ."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from lightning.pytorch.utilities import rank_zero_warn

from pcclip.datasets.annotations import read_class_pairs, read_comparatives
from pcclip.datasets.tables import read_table
from pcclip.metrics.comparative_prompting import ALPHAS, comparative_prompting, text_geometry
from pcclip.metrics.protocol import Comparative, Metric
from pcclip.tasks.classes import NAME_COLUMN, TemplateTask
from pcclip.tasks.task import Context


@dataclass(kw_only=True)
class ComparativePrompting(TemplateTask):
    """Comparative prompting, and where its texts point (`pcclip.metrics.comparative_prompting`)."""

    kind: ClassVar[str] = "comparative_prompting"
    texts: str
    """JSON Lines `{"first", "second", "text"}`; see `pcclip.datasets.annotations.read_comparatives`."""
    texts_column: str | None = None
    """Column of `table` with the class names that `texts` and `pairs` use, if they differ from those of the images."""
    pairs: str | None = None
    """JSON Lines `{"first", "second"}`: use only the texts about these pairs."""
    alphas: list[float] = field(default_factory=lambda: list(ALPHAS))
    """Weights of the plain class embeddings, each once, from 0 to below 1."""

    def prepare(self) -> None:
        if (
            not self.alphas
            or not all(0 <= alpha < 1 for alpha in self.alphas)
            or len(set(self.alphas)) < len(self.alphas)
        ):
            raise ValueError(f"{self.title}: alphas {self.alphas}: give numbers from 0 to below 1, each once")
        super().prepare()
        names = self._names()
        comparatives = read_comparatives(self.texts)
        self._check_known({name for row in comparatives for name in (row.first, row.second)}, names, self.texts)
        if self.pairs is not None:
            pairs = read_class_pairs(self.pairs)
            self._check_known({name for pair in pairs for name in pair}, names, self.pairs)
            if bare := pairs - {frozenset((row.first, row.second)) for row in comparatives}:
                raise ValueError(f"{self.texts}: no text for {len(bare)} pairs of {self.pairs}: {sorted(bare.pop())}")
            comparatives = [row for row in comparatives if frozenset((row.first, row.second)) in pairs]
        renamed = [Comparative(names[row.first], names[row.second], row.text) for row in comparatives]
        chosen = set(self._labelled.classes)
        self._comparatives = [row for row in renamed if {row.first, row.second} <= chosen]
        if not self._comparatives:
            raise ValueError(f"{self.texts}: no text about two of the {len(chosen)} classes that {self.title} chooses")
        if left_out := len(renamed) - len(self._comparatives):
            rank_zero_warn(
                f"{self.title}: excluded {left_out} of {len(renamed)} texts, because they are about classes that are not "
                f"among its {len(chosen)}"
            )

    def _names(self) -> dict[str, str]:
        """Return the class names that the texts use, each with its class name among the images."""
        if self.texts_column is None:
            return {name: name for name in self._labelled.known}
        if self.table is None:
            raise ValueError(f"{self.title}: `texts_column` is a column of a `table`; give one, or leave it out")
        return read_table(self.table, self.texts_column).texts(NAME_COLUMN)

    def _check_known(self, found: set[str], names: dict[str, str], file: str) -> None:
        if unknown := sorted(found - set(names)):
            raise ValueError(
                f"{file}: unknown classes {unknown[:5]} ({len(unknown)}); {self.title} knows {list(names)[:5]} and so on. "
                "If the file uses other names for the classes, give the `table` and its `texts_column`"
            )

    def measure(self, context: Context) -> Iterable[Metric]:
        labelled = self._labelled
        embeddings, kept = context.embed(labelled.images)
        encoder, templates, texts = context.encoder, self._templates, self._comparatives
        yield from comparative_prompting(
            encoder,
            embeddings,
            labelled.labels[kept],
            labelled.classes,
            templates,
            texts,
            alphas=self.alphas,
            bootstrap=context.bootstrap,
        )
        for metric in text_geometry(encoder, labelled.classes, templates, texts, bootstrap=context.bootstrap):
            yield replace(metric, part="texts")
