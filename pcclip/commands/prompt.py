"""`pcclip prompt`."""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from jsonargparse.typing import ClosedUnitInterval, PositiveInt

from pcclip.commands.command import PictureCommand
from pcclip.paths import read_text


@dataclass
class Ask:
    """A language model that writes the texts from the names of the classes, as `pcclip-data class_texts` does."""

    model: str
    """Its name at the endpoint."""
    base_url: str | None = None
    """OpenAI-compatible endpoint; by default OpenAI's own."""
    kind: str | None = None
    """What the classes are, e.g. flowers; the model reads it."""


@dataclass(kw_only=True)
class Prompt(PictureCommand):
    """Sort pictures into classes, with texts that say how the classes differ (comparative prompting).

    pcclip prompt PICTURES --classes "a cat,a dog"
    pcclip prompt PICTURES --classes classes.txt --comparatives comparatives.jsonl
    pcclip prompt PICTURES --classes classes.txt --comparatives comparatives.jsonl --ask.model NAME
    """

    classes: str
    """Names with commas, or a file with one a line."""
    template: str | list[str] = "a photo of a {}"
    """Sentence with {} for the class; several are averaged."""
    comparatives: str | None = None
    """JSON Lines file: first, second, text (first against second)."""
    ask: Ask | None = None
    """Language model that writes `--comparatives`. Its answers are kept there, so that nothing is asked twice."""
    alpha: ClosedUnitInterval = 0.8
    """Weight of plain prompts against the texts of `--comparatives`."""
    output: str = "classes.csv"
    """CSV file; the sheet is next to it as .png."""
    sheet: PositiveInt = 60
    """Pictures on the sheet, spread evenly over the classes."""

    def run(self) -> None:
        """Classify, and write the table and the sheet."""
        import torch

        from pcclip.datasets.annotations import read_comparatives
        from pcclip.tools.output import draw_sheet, write_outputs
        from pcclip.tools.picture_sources import find_pictures

        output = self.new_output()
        classes = self._classes()
        pictures = find_pictures(self.pictures)
        model = self.load_model()
        from pcclip.tools.prompting import classify

        if self.ask is not None:
            self._ask(self.ask, classes)
        comparatives = read_comparatives(self.comparatives) if self.comparatives else []
        gallery = self.embed(model, pictures)
        templates = [self.template] if isinstance(self.template, str) else self.template
        found = classify(model, gallery, classes, templates, comparatives, self.alpha)
        first, second = ([classes[index] for index in column.tolist()] for column in (found.first, found.second))
        for name, count in Counter(first).most_common():
            print(f"{count:>8}  {name}")
        if comparatives:
            changed = int((classify(model, gallery, classes, templates).first != found.first).sum())
            print(f"{changed} pictures changed their class by the {len(comparatives)} texts")
        order = sorted(range(len(first)), key=lambda index: (first[index], -float(found.margin[index])))
        sheet = draw_sheet(gallery, torch.tensor(order), first, f"{len(set(first))} classes", self.sheet)
        cosine, margin = ([f"{value:.6f}" for value in column.tolist()] for column in (found.cosine, found.margin))
        table = zip((picture.key for picture in gallery.pictures), first, cosine, second, margin, strict=True)
        drawn = write_outputs(output, ("path", "class", "cosine", "second", "margin"), table, sheet, gallery)
        print(f"{len(first)} pictures: {output} and {drawn}")

    def _classes(self) -> list[str]:
        path = Path(self.classes)
        names = read_text(path, "classes").splitlines() if path.is_file() else self.classes.split(",")
        found = [name.strip() for name in names if name.strip()]
        if len(found) < 2 or len(set(found)) < len(found):
            raise ValueError(f"--classes {self.classes}: give at least two names, each once, or a file with one a line")
        return found

    def _ask(self, ask: Ask, classes: list[str]) -> None:
        from data_prep.steps.class_texts import ClassTexts  # here alone: without --ask nothing of data_prep is needed
        from pcclip.tools.output import check_writable

        if self.comparatives is None:
            raise ValueError("--ask needs --comparatives FILE, in which the answers are kept")
        with tempfile.TemporaryDirectory() as scratch:
            names = Path(scratch) / "classes.txt"
            names.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
            ClassTexts(
                output=str(check_writable(self.comparatives)),
                pairs=str(names),
                kind=ask.kind or ClassTexts.kind,
                model=ask.model,
                base_url=ask.base_url,
            ).run()
