"""What happens on the page of `pcclip demo`: the functions behind its events, and the panels that they fill."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gradio
from PIL import Image

from pcclip.tools.attributes import Attribute, phrased
from pcclip.tools.demo_answers import Examples, Picked, Shown, Tile
from pcclip.tools.library import Library, uploaded

NOTHING = "nothing"  # next to the model
BY_EXAMPLES = "by the examples"  # weight of the words in a blend
PROGRESS = gradio.Progress(track_tqdm=True)  # of embedding pictures
MAX_CLASSES = 48
SEARCH = "search"  # what a click does, if it does not mark the picture
MARKED = "**Examples**: they count once both ends have one. A click removes one."
UNMARKED = "**Examples**: none."


class Panel:
    """One model's part of an answer: a title, bars or pictures, and the names of the pictures."""

    def __init__(self, role: str, columns: int) -> None:
        with gradio.Column(min_width=320) as self.column:
            self.title = gradio.Markdown(elem_id=f"{role}-title")
            self.bars = gradio.Label(show_label=False, show_heading=False, visible=False, elem_id=f"{role}-bars")
            self.gallery = gradio.Gallery(
                elem_id=role,
                elem_classes="tiles",
                columns=columns,
                height="max-content",  # "auto" would scroll
                object_fit="contain",
                show_label=False,
                buttons=[],
                allow_preview=False,
                interactive=False,
            )
        self.keys = gradio.State([])
        self.outputs = [self.column, self.title, self.bars, self.gallery, self.keys]


def filled(title: str, tiles: Sequence[Tile] = (), bars: dict[str, float] | None = None) -> list[Any]:
    """Return updates of `Panel.outputs`."""
    return [
        gradio.Column(visible=True),
        title,
        gradio.Label(value=bars, visible=bars is not None),
        gradio.Gallery(
            value=[(tile.picture, tile.caption) for tile in tiles], selected_index=None, visible=len(tiles) > 0
        ),
        [tile.key for tile in tiles],
    ]


def _both(panels: list[list[Any]]) -> list[Any]:
    """Return the updates of two panels. The second is hidden if there is one model only."""
    hidden = [gradio.Column(visible=False), "", None, [], []]
    return [update for panel in [*panels, hidden][:2] for update in panel]


def _weight(blend: str) -> float | None:
    return None if blend == BY_EXAMPLES else float(blend)


@contextmanager
def _errors_shown() -> Iterator[None]:
    """Show expected errors on the page, without a traceback on the terminal."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise gradio.Error(str(error), print_exception=False) from error


class Events:
    """The functions behind the page's events.

    Args:
        library: The pictures and models of the page.
        examples: What the page offers without typing.
    """

    def __init__(self, library: Library, examples: Examples) -> None:
        self.library, self.examples = library, examples

    def rank(
        self,
        pictures: str,
        model: str,
        second: str,
        less: str,
        more: str,
        marks: dict[str, str],
        blend: str,
        progress: Any = PROGRESS,
    ) -> list[Any]:
        """Update the strips, the slider's label and the examples."""
        strips = []
        with _errors_shown():
            axis = phrased(more, less)
            for name, shown in self._models(pictures, model, second, axis):
                ranking = shown.ranking(axis, marks, _weight(blend))
                sure = "unknown" if math.isnan(ranking.agreement) else f"{ranking.agreement:.0%}"
                strips.append(filled(f"**{name}** · how sure: {sure}", shown.strip(ranking)))
            examples = self.library.shown(pictures, model).examples(marks)
        slider = gradio.Slider(label=f"Place on the axis, from {axis.less} (0 %) to {axis.more} (100 %)")
        return [*_both(strips), slider, *filled(MARKED if examples else UNMARKED, examples)]

    def around(
        self,
        pictures: str,
        model: str,
        second: str,
        less: str,
        more: str,
        marks: dict[str, str],
        blend: str,
        place: float,
        progress: Any = PROGRESS,
    ) -> list[Any]:
        """Update the pictures at the slider's place."""
        near = []
        with _errors_shown():
            axis = phrased(more, less)
            for name, shown in self._models(pictures, model, second, axis):
                near.append(
                    filled(
                        f"**{name}** · at this place", shown.around(shown.ranking(axis, marks, _weight(blend)), place)
                    )
                )
        return _both(near)

    def search(
        self,
        pictures: str,
        model: str,
        second: str,
        less: str,
        more: str,
        start: Picked,
        factor: float,
        progress: Any = PROGRESS,
    ) -> list[Any]:
        """Update the picture to start from and what was found."""
        with _errors_shown():
            axis = phrased(more, less)
            models = list(self._models(pictures, model, second, axis))
            start = models[0][1].named(start, 0)
            panels = [filled(f"**{name}**", shown.found(start, axis, factor)) for name, shown in models]
            return [start, models[0][1].thumbnail(start), *_both(panels)]

    def compare(
        self,
        pictures: str,
        model: str,
        second_model: str,
        less: str,
        more: str,
        first: Picked,
        second: Picked,
        progress: Any = PROGRESS,
    ) -> list[Any]:
        """Update the two pictures, what the models say of their difference, and the pictures to choose from."""
        with _errors_shown():
            own = phrased(more, less)
            sides = {own.more, own.less}
            axes = [own, *(each for each in self.examples.vocabulary if {each.more, each.less} != sides)]
            models = list(self._models(pictures, model, second_model, own))
            first, second = models[0][1].named(first, 1), models[0][1].named(second, 0)
            small = [models[0][1].thumbnail(picked) for picked in (first, second)]
            panels = [filled(f"**{name}**", bars=shown.compared(first, second, axes)) for name, shown in models]
            choices = filled("", models[0][1].strip(models[0][1].ranking(own)))
            return [first, second, *small, *_both(panels), *choices]

    def classify(
        self, pictures: str, model: str, second: str, classes: str, template: str, progress: Any = PROGRESS
    ) -> list[Any]:
        """Update the shares and pictures of the classes."""
        names = list(dict.fromkeys(name.strip() for name in classes.split(",") if name.strip()))
        panels = []
        with _errors_shown():
            if not 2 <= len(names) <= MAX_CLASSES:
                raise ValueError(f"{len(names)} classes; name 2 to {MAX_CLASSES}, separated by commas")
            if "{}" not in template:
                raise ValueError("The text of a class has no {} for its name; add it")
            for name, shown in self._models(pictures, model, second):
                shares, tiles = shown.classified(names, template)
                panels.append(filled(f"**{name}**", tiles, shares))
        return _both(panels)

    def upload(self, file: str) -> Image.Image:
        """Decode an upload."""
        with _errors_shown():
            return uploaded(file)

    def pick(
        self, keys: list[str], click: str, start: Picked, marks: dict[str, str], event: gradio.SelectData
    ) -> list[Any]:
        """Mark a picture as an example, or take it to start from and go to the search."""
        key = keys[event.index]
        if click == SEARCH:
            return [key, gradio.Tabs(selected="search"), marks]
        return [start, gradio.Tabs(selected="rank"), {**marks, key: click}]

    def unmark(self, keys: list[str], marks: dict[str, str], event: gradio.SelectData) -> dict[str, str]:
        """Remove the mark of a picture."""
        return {key: mark for key, mark in marks.items() if key != keys[event.index]}

    def search_from(self, keys: list[str], event: gradio.SelectData) -> list[Any]:
        """Take a picture to start from, and go to the search."""
        return [keys[event.index], gradio.Tabs(selected="search")]

    def compare_with(self, keys: list[str], other: Picked, event: gradio.SelectData) -> list[Any]:
        """Take a picture as the first and `other` as the second, and go to the comparison."""
        return [keys[event.index], other, gradio.Tabs(selected="compare")]

    def _models(self, pictures: str, model: str, second: str, *axes: Attribute) -> Iterator[tuple[str, Shown]]:
        """Yield the one or two models by name. Warn of texts that are too long."""
        texts = [text for axis in axes for wording in axis.wordings for text in (wording.text, wording.reverse)]
        for name in [model] if second == NOTHING else [model, second]:
            shown = self.library.shown(pictures, name)
            for text in texts:
                if not shown.model.clip.tokenizer.fits(text):
                    gradio.Warning(f"text too long for {name}, its end is cut off: {text!r}")
            yield name, shown
