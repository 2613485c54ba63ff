"""Comparative prompting each epoch, on any number of class sets with texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from pcclip.callbacks.classes import LabelledImages, read_labelled, read_templates
from pcclip.callbacks.evaluation import EvaluationCallback
from pcclip.datasets.comparatives import read_class_pairs, read_comparatives
from pcclip.datasets.sources import ImageSource
from pcclip.datasets.tables import read_table
from pcclip.metrics.comparative_prompting import ALPHAS, comparative_prompting
from pcclip.metrics.protocol import Comparative, Result
from pcclip.metrics.text_geometry import text_geometry


@dataclass
class ComparativeSet:
    """Labelled images, the sentences that name their classes, and texts that say how classes differ.

    Attributes:
        images: Folder of class folders, or of tars with `classnames.txt`, or a dataset (`pcclip.datasets.sources.ImageSource`).
        templates: Sentences with `{}` for the class name, whose embeddings are averaged; or `openai`, `simple`, or a file.
        texts: JSON Lines `{"first", "second", "text"}`; see `pcclip.datasets.comparatives.read_comparatives`.
        classes: Choose among, and judge images of, these classes only: a list, or a file with one name a line.
        table: CSV or JSON Lines with a row for each class, to choose classes by; not together with `classes`.
        name_column: The table's column with the class names.
        where: Keep only rows of the table with these values, e.g. `{split: train}`.
        texts_column: The table's column with the names by which `texts` and `pairs` know the classes, if not their own.
        pairs: JSON Lines `{"first", "second"}`: use the texts of these pairs only.
        alphas: Weights of the plain class embeddings.
    """

    images: str | ImageSource
    templates: list[str] | str
    texts: str
    classes: list[str] | str | None = None
    table: str | None = None
    name_column: str = "name"
    where: dict[str, str] | None = None
    texts_column: str | None = None
    pairs: str | None = None
    alphas: list[float] | None = None


@dataclass
class _Prepared:
    labelled: LabelledImages
    templates: list[str]
    comparatives: list[Comparative]


class ComparativePrompting(EvaluationCallback):
    """Measures comparative prompting and the geometry of its texts.

    See `pcclip.metrics.comparative_prompting` and `pcclip.metrics.text_geometry`.

    Args:
        sets: Name to class set; results are named `comparative_prompting/<name>/all/<metric>`, `.../confused/...`, and
            `text_geometry/<name>/<metric>`.
        **settings: When and how to evaluate; see `EvaluationCallback`.
    """

    def __init__(
        self,
        sets: dict[str, ComparativeSet],
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.sets = sets
        self._prepared: dict[str, _Prepared] = {}

    def prepare(self) -> None:
        """List the images, choose the classes, and read the texts.

        Texts about classes that are not chosen are left out, with a warning that counts them.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: Anything in them that does not fit together, or no text left.
        """
        self._prepared = {name: _prepare(f"comparative set {name}", settings) for name, settings in self.sets.items()}

    def results(self, trainer: Trainer, pl_module: LightningModule, resamples: int) -> list[Result]:
        """All metrics of all sets."""
        results = []
        encoder = self.encoder(pl_module)
        for name, prepared in self._prepared.items():
            labelled, settings = prepared.labelled, self.sets[name]
            embeddings, kept = self.embed(trainer, pl_module, labelled.images, name)
            results += comparative_prompting(
                encoder,
                embeddings,
                labelled.labels[kept],
                labelled.classes,
                prepared.templates,
                prepared.comparatives,
                alphas=settings.alphas or ALPHAS,
                subset=name,
                resamples=resamples,
                seed=self.seed,
            )
            results += text_geometry(
                encoder,
                labelled.classes,
                prepared.templates,
                prepared.comparatives,
                subset=name,
                resamples=resamples,
                seed=self.seed,
            )
        return results


def _prepare(where: str, settings: ComparativeSet) -> _Prepared:
    templates = read_templates(settings.templates, where)
    labelled = read_labelled(
        where,
        settings.images,
        classes=settings.classes,
        table=settings.table,
        name_column=settings.name_column,
        where=settings.where,
    )
    names = _names(settings, labelled, where)
    comparatives = read_comparatives(settings.texts)
    _refuse_unknown({name for row in comparatives for name in (row.first, row.second)}, names, settings.texts, where)
    if settings.pairs is not None:
        pairs = read_class_pairs(settings.pairs)
        _refuse_unknown({name for pair in pairs for name in pair}, names, settings.pairs, where)
        if bare := pairs - {frozenset((row.first, row.second)) for row in comparatives}:
            raise ValueError(
                f"{settings.texts}: no text for {len(bare)} pairs of {settings.pairs}: {sorted(bare.pop())}"
            )
        comparatives = [row for row in comparatives if frozenset((row.first, row.second)) in pairs]
    renamed = [Comparative(names[row.first], names[row.second], row.text) for row in comparatives]
    chosen = set(labelled.classes)
    used = [row for row in renamed if {row.first, row.second} <= chosen]
    if not used:
        raise ValueError(f"{settings.texts}: no text about two of the {len(chosen)} classes that {where} chooses")
    if len(used) < len(renamed):
        rank_zero_warn(
            f"{where}: {len(renamed) - len(used)} of {len(renamed)} texts are about classes that are not among its "
            f"{len(chosen)} and are left out"
        )
    return _Prepared(labelled, templates, used)


def _names(settings: ComparativeSet, labelled: LabelledImages, where: str) -> dict[str, str]:
    """The names by which texts know the classes, to their own."""
    if settings.texts_column is None:
        return {name: name for name in labelled.known}
    if settings.table is None:
        raise ValueError(f"{where}: `texts_column` is a column of a `table`; give one, or leave it out")
    rows = read_table(settings.table, settings.texts_column).rows
    return {key: str(row.get(settings.name_column)) for key, row in rows.items()}


def _refuse_unknown(found: set[str], names: dict[str, str], file: str, where: str) -> None:
    if unknown := sorted(found - set(names)):
        raise ValueError(
            f"{file}: unknown classes {unknown[:5]} ({len(unknown)}); {where} knows {list(names)[:5]} and so on. If the file "
            "knows classes by another name, give the `table` and its `texts_column`"
        )
