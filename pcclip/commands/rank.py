"""`pcclip rank`."""

from dataclasses import dataclass

from jsonargparse.typing import PositiveInt

from pcclip.commands.axis import AxisOptions
from pcclip.commands.command import PictureCommand


@dataclass(kw_only=True)
class Rank(PictureCommand, AxisOptions):
    """Order pictures along an axis given in words, most first: a table and a contact sheet.

    pcclip rank PICTURES --more TEXT --less TEXT, or
    pcclip rank PICTURES --attribute size
    """

    output: str = "ranked.csv"
    """CSV file; the sheet is next to it as .png."""
    sheet: PositiveInt = 60
    """Pictures on the sheet, spread evenly over the order."""

    def run(self) -> None:
        """Rank, and write the table and the sheet."""
        axes = self.axes()
        if len(axes) > 1:
            raise ValueError(f"--attribute {self.attribute}: rank by one")
        from pcclip.tools.output import draw_sheet, write_outputs
        from pcclip.tools.picture_sources import find_pictures

        output = self.new_output()
        pictures = find_pictures(self.pictures)
        model = self.load_model()
        from pcclip.tools.ranking import COLUMNS, in_order, table

        gallery = self.embed(model, pictures)
        (axis,) = axes
        scores = model.scores(gallery, model.axis(axis.wordings))
        order = scores.argsort(descending=True, stable=True)
        title = f"{axis.name}: {axis.more} first, {axis.less} last"
        sheet = draw_sheet(gallery, order, [f"{value:+.3f}" for value in scores.tolist()], title, self.sheet)
        drawn = write_outputs(output, COLUMNS, table(gallery, scores), sheet, gallery)
        print(f"{'rank':>6}  {'score':>8}  path")
        for row in in_order(gallery, scores):
            if row.rank <= 3 or row.rank > len(scores) - 3:
                print(f"{row.rank:>6}  {row.score:>+8.4f}  {row.path}")
            elif row.rank == 4:
                print("   ...")
        print(f"{len(scores)} pictures ranked: {output} and {drawn}")
