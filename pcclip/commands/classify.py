"""`pcclip classify`."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jsonargparse.typing import PositiveInt

from pcclip.commands.axis import AxisOptions
from pcclip.commands.command import PictureCommand

if TYPE_CHECKING:
    from torch import Tensor

    from pcclip.tools.inference import InferenceModel


@dataclass(kw_only=True)
class Classify(PictureCommand, AxisOptions):
    """Split pictures by thresholds on one axis or several.

    pcclip classify PICTURES --attribute size --threshold 0
    pcclip classify PICTURES --attribute [size, count] --threshold '{size: 0, count: 0.02}'
    pcclip classify PICTURES --attribute size --examples examples.csv
    """

    output: str = "classified.csv"
    """CSV file; the sheet is next to it as .png."""
    threshold: float | dict[str, float] | None = None
    """Score above which a picture has more, or one by the name of each axis; the mean picture scores 0."""
    examples: str | None = None
    """Table to choose thresholds by: `path`, and a column of 1 (more) or 0 (less) for each axis."""
    split: str | None = None
    """New folder to copy the pictures into, with a subfolder for each class."""
    sheet: PositiveInt = 60
    """Pictures on the sheet, spread evenly over the classes."""

    def run(self) -> None:
        """Classify, and write the table, the sheet and the folders."""
        axes = self.axes()
        if (self.threshold is None) == (self.examples is None):
            raise ValueError("give either --threshold or --examples")
        thresholds = self._given_thresholds([axis.name for axis in axes])
        import torch

        from pcclip.atomic import atomic_folder
        from pcclip.tools.output import draw_sheet, new_folder, write_outputs
        from pcclip.tools.picture_sources import find_pictures

        output = self.new_output()
        if self.split is not None:
            new_folder(self.split, self.overwrite)
        pictures = find_pictures(self.pictures)
        model = self.load_model()
        from pcclip.tools.thresholds import classes_of, copy_by_class

        gallery = self.embed(model, pictures)
        directions = {axis.name: model.axis(axis.wordings) for axis in axes}
        centre = gallery.mean()
        if self.examples is not None:
            thresholds, centre = self._learned_thresholds(self.examples, model, directions)
        scores = {name: model.scores(gallery, direction, centre) for name, direction in directions.items()}
        classes = classes_of(axes, scores, thresholds)
        counts = Counter(classes)
        order = sorted(range(len(classes)), key=lambda index: (classes[index], -scores[axes[0].name][index]))
        sheet = draw_sheet(gallery, torch.tensor(order), classes, f"{len(counts)} classes", self.sheet)
        columns = [[f"{value:.6f}" for value in values.tolist()] for values in scores.values()]
        table = zip((picture.key for picture in gallery.pictures), classes, *columns, strict=True)
        with nullcontext() if self.split is None else atomic_folder(self.split) as folder:
            if folder is not None:
                copy_by_class(folder, gallery, classes)
            drawn = write_outputs(output, ("path", "class", *scores), table, sheet, gallery)
        for name, count in sorted(counts.items()):
            print(f"{count:>8}  {name}")
        print(f"{len(classes)} pictures classified: {output} and {drawn}")

    def _given_thresholds(self, names: list[str]) -> dict[str, float]:
        if self.threshold is None:
            return {}
        given = self.threshold if isinstance(self.threshold, dict) else {names[0]: self.threshold}
        if set(given) != set(names):
            raise ValueError(f"--threshold {self.threshold}: give one for each of {', '.join(names)}, by its name")
        return given

    def _learned_thresholds(
        self, file: str, model: "InferenceModel", directions: "dict[str, Tensor]"
    ) -> "tuple[dict[str, float], Tensor]":
        """Return the thresholds by which the examples are classified best, and the examples' mean embedding."""
        from pcclip.tools.thresholds import calibrate, read_examples

        files, labels = read_examples(file, list(directions))
        examples = model.embed_pictures(files, batch_size=self.batch_size)
        for key, reason in examples.unreadable.items():
            raise ValueError(f"{file}: {key} cannot be read ({reason}); fix or remove the row")
        centre = examples.mean()
        thresholds = {}
        for name, direction in directions.items():
            thresholds[name], accuracy = calibrate(model.scores(examples, direction, centre), labels[name])
            print(
                f"{name}: threshold {thresholds[name]:+.4f}, balanced accuracy {accuracy:.3f} on {len(files)} examples"
            )
        return thresholds, centre
