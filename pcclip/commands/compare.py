"""`pcclip compare`."""

from dataclasses import dataclass
from typing import ClassVar

from pcclip.commands.axis import AxisOptions
from pcclip.commands.command import ModelCommand


@dataclass(kw_only=True)
class Compare(ModelCommand, AxisOptions):
    """Say which of two pictures has more, and by how much.

    pcclip compare A.jpg B.jpg --attribute size
    """

    positional: ClassVar[dict[str, str]] = {"pictures": "two pictures"}

    pictures: list[str]

    def run(self) -> None:
        """Compare, and print a line for each axis."""
        if len(self.pictures) != 2:
            raise ValueError(f"{len(self.pictures)} pictures; name two")
        first, second = self.pictures
        axes = self.axes()
        model = self.load_model()
        for axis in axes:
            texts = {wording.text: wording.reverse for wording in axis.wordings}
            cosines = model.compare(first, second, [*texts, *texts.values()])
            margin = sum(cosines[text] - cosines[reverse] for text, reverse in texts.items()) / len(texts)
            more = first if margin > 0 else second
            print(f"{axis.name}: {more} has more, by a margin of {abs(margin):.3f} (cosine with text minus reverse)")
