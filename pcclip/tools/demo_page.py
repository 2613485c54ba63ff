"""The layout of the page of `pcclip demo`, made with Gradio."""

from functools import partial
from typing import Any

import gradio

from pcclip.tools.attributes import Attribute
from pcclip.tools.demo_answers import AROUND, FOUND, HIGH, LOW, PER_CLASS, STRIP, Examples
from pcclip.tools.demo_events import BY_EXAMPLES, NOTHING, SEARCH, Events, Panel
from pcclip.tools.library import Library

KEPT = 3600  # seconds that thumbnails and uploads stay in Gradio's folder of temporary files
LONGEST = 500  # characters of a text
WEIGHTS = ["0", "0.25", "0.5", "0.75", "1"]  # of the words in a blend with examples
THEME = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # nothing from other servers
# Gradio lays captions over the pictures. Here they are below them, and strips have fewer columns on small screens.
CSS = """
.tiles .thumbnail-lg {aspect-ratio: auto; height: auto; display: flex; flex-direction: column}
.tiles .thumbnail-lg img {aspect-ratio: 1; height: auto}
.tiles .caption-label {
  position: static; max-width: 100%; align-self: center; background: none; border: none; padding: 2px; white-space: normal
}
.tiles .grid-container {grid-template-columns: repeat(var(--grid-cols), minmax(0, 1fr)); grid-auto-rows: auto}
#examples .grid-container {grid-template-columns: repeat(auto-fill, minmax(90px, 1fr))}
@media (max-width: 640px) {
  .tiles .grid-container {grid-template-columns: repeat(4, minmax(0, 1fr))}
  .tiles .caption-label {font-size: 11px; padding: 2px 0}
  .prose h1 {font-size: 20px}
  .tab-container button {padding: 0 12px}
  button.md {font-size: 12px; padding: 4px}
  .info-text {display: none}
}
"""
INTRODUCTION = """# Rank pictures by words
Press a button, or say in your own words how pictures differ. **Rank** orders all pictures by it. **Search** finds pictures
like one, with more or less of it. **Compare** says how two pictures differ. Click on a picture to search from it."""
RANKING = """From least (left) to most (right), evenly spread over all pictures. Below each: rank and score; the average picture
scores 0. **How sure:** how often the sentences and their opposites agree on which of two pictures has more. 50 % is
chance; near 0 % they contradict each other, as they do for a model that does not read such sentences."""
MARKING = """Mark pictures with much of it as high and pictures with little of it as low. **Weight of the words:** set by how
well the model reads the words and they order the pictures, or from 0 (examples only) to 1 (words only). **How sure:** how
often words and examples agree."""
SEARCHING = """Pictures like the start, with more of it (lambda above 0) or less (below 0). Below each: its cosine with
*start + lambda · axis*. Click on one to compare it with the start."""
COMPARING = """What the first picture has more of than the second: your words, and the words of a vocabulary that fit best.
Of two opposites, such as stars and triangles, the likelier is named, even if neither picture shows either. **How sure:** the
probability of the sentences against their opposites. Click on a picture below: it becomes the first, and the first the
second."""
CLASSIFYING = """Each picture gets the class whose text is nearest. Bars: each class's share of the pictures. Pictures: some
of each class, the surest first. **How sure:** the probability of the class among those named."""


def build_page(library: Library, pictures: str, model: str, second: str | None, examples: Examples) -> Any:
    """Return the page, not yet served.

    Args:
        library: The pictures and models to choose from.
        pictures: The pictures that it opens with.
        model: The model that it opens with.
        second: A second model next to it, if any.
        examples: What it offers without typing.
    """
    events = Events(library, examples)
    with gradio.Blocks(title="pcclip", analytics_enabled=False, delete_cache=(KEPT, KEPT)) as page:
        gradio.Markdown(INTRODUCTION)
        with gradio.Accordion("Pictures and models", open=False, elem_id="choose"), gradio.Row():
            chosen = [
                gradio.Dropdown(library.pictures, value=pictures, label="Pictures", elem_id="pictures", min_width=240),
                gradio.Dropdown(library.models, value=model, label="Model", elem_id="model", min_width=240),
                gradio.Dropdown(
                    [NOTHING, *library.models],
                    value=second or NOTHING,
                    label="Compare with",
                    elem_id="second",
                    min_width=240,
                ),
            ]
        with gradio.Row():
            buttons = [
                gradio.Button(short_name(each), size="md", min_width=140, elem_id=f"axis-{each.name}")
                for each in examples.axes
            ]
        with gradio.Row(equal_height=True):
            info = "Words such as “larger shapes”, or a sentence on the first and the second picture"
            less = _textbox("Less of it", "less", examples.axes[0].less, "The opposite", 130)
            more = _textbox("More of it", "more", examples.axes[0].more, info, 130)
            go = gradio.Button("Go", variant="primary", elem_id="go", scale=0, min_width=60)
        axis = [less, more]
        with gradio.Tabs(overflow_behavior="wrap") as tabs:
            with gradio.Tab("Rank", id="rank", elem_id="tab-rank"):
                strips = [Panel(f"ranked-{number}", STRIP) for number in range(2)]
                gradio.Markdown(RANKING)
                place = gradio.Slider(0, 100, value=50, step=1, label="Place on the axis", elem_id="place")
                with gradio.Row():
                    near = [Panel(f"near-{number}", AROUND) for number in range(2)]
                with gradio.Accordion("Rank by example pictures too", open=False, elem_id="by-examples"):
                    gradio.Markdown(MARKING)
                    clicks = [("searches from it", SEARCH), ("marks it as high", HIGH), ("marks it as low", LOW)]
                    with gradio.Row(equal_height=True):
                        on_click = gradio.Radio(
                            clicks, value=SEARCH, label="A click on a picture above", elem_id="click", min_width=240
                        )
                        blend = gradio.Radio(
                            [BY_EXAMPLES, *WEIGHTS], value=BY_EXAMPLES, label="Weight of the words", elem_id="blend",
                            min_width=240,
                        )  # fmt: skip
                    examples_panel = Panel("examples", STRIP)
            with gradio.Tab("Search", id="search", elem_id="tab-search"):
                gradio.Markdown(SEARCHING)
                with gradio.Row():
                    with gradio.Column(min_width=200, scale=1):
                        shown_start = _picture("Start", "start")
                        # Without `file_types`, which end in a traceback when a file is no picture.
                        upload = gradio.UploadButton("Upload another", size="sm", elem_id="upload")
                    with gradio.Column(min_width=320, scale=4):
                        factor = gradio.Slider(
                            -2, 2, value=1, step=0.1, elem_id="lambda",
                            label="lambda: how far from the start; below 0 towards less",
                        )  # fmt: skip
                        found = [Panel(f"found-{number}", FOUND) for number in range(2)]
            with gradio.Tab("Compare", id="compare", elem_id="tab-compare"):
                gradio.Markdown(COMPARING)
                with gradio.Row():
                    pair = [_picture("First", "first"), _picture("Second", "second")]
                    compared = [Panel(f"compared-{number}", 1) for number in range(2)]
                choices = Panel("choices", STRIP)
            with gradio.Tab("Classify", id="classify", elem_id="tab-classify"):
                gradio.Markdown(CLASSIFYING)
                with gradio.Row(equal_height=True):
                    classes = _textbox("Classes", "classes", ", ".join(examples.classes), "Separated by commas")
                    template = _textbox("Text of a class", "template", examples.template, "{} stands for its name")
                    split = gradio.Button("Classify", variant="primary", elem_id="split", scale=0, min_width=100)
                with gradio.Row():
                    classified = [Panel(f"classified-{number}", PER_CLASS) for number in range(2)]
        start, first, second_picked = gradio.State(None), gradio.State(None), gradio.State(None)
        marks = gradio.State({})

        def both(panels: list[Panel]) -> list[Any]:
            return [output for panel in panels for output in panel.outputs]

        ranking = (events.rank, [*chosen, *axis, marks, blend], [*both(strips), place, *examples_panel.outputs])
        placing = (events.around, [*chosen, *axis, marks, blend, place], both(near))
        searching = (events.search, [*chosen, *axis, start, factor], [start, shown_start, *both(found)])
        compare_outputs = [first, second_picked, *pair, *both(compared), *choices.outputs]
        comparing = (events.compare, [*chosen, *axis, first, second_picked], compare_outputs)
        classifying = (events.classify, [*chosen, classes, template], both(classified))

        latest: Any = {"trigger_mode": "always_last"}  # a change during an answer is answered next
        set_changes = [page.load, *(each.input for each in chosen)]
        changes = [gradio.on([*set_changes, less.submit, more.submit, go.click], *ranking, **latest)]
        for button, example in zip(buttons, examples.axes, strict=True):
            typed = button.click(partial(_texts, example), None, axis, show_progress="hidden")
            changes.append(typed.then(*ranking))
        for change in changes:
            change.success(*placing).success(*searching).success(*comparing)
        gradio.on([*set_changes, classes.submit, template.submit, split.click], *classifying, **latest)
        place.release(*placing, **latest)
        factor.release(*searching, **latest)
        upload.upload(events.upload, upload, start).success(*searching)
        gradio.on([marks.change, blend.input], *ranking, **latest).success(*placing)
        examples_panel.gallery.select(events.unmark, [examples_panel.keys, marks], marks)
        for panel in (*strips, *near):
            click = panel.gallery.select(events.pick, [panel.keys, on_click, start, marks], [start, tabs, marks])
            click.success(*searching)
        for panel in classified:
            panel.gallery.select(events.search_from, panel.keys, [start, tabs]).success(*searching)
        for panel, other in (*((each, start) for each in found), (choices, first)):
            click = panel.gallery.select(events.compare_with, [panel.keys, other], [first, second_picked, tabs])
            click.success(*comparing)
    return page


def short_name(axis: Attribute) -> str:
    """Return an axis's name with the words in which its sides differ, such as `size: larger / smaller`."""
    more, less = axis.more.split(), axis.less.split()
    sides = [" ".join(word for word in own if word not in other) for own, other in ((more, less), (less, more))]
    return f"{axis.name.replace('_', ' ')}: {' / '.join(sides)}"


def _texts(axis: Attribute) -> list[str]:
    return [axis.less, axis.more]


def _textbox(label: str, name: str, value: str, info: str, min_width: int = 240) -> Any:
    return gradio.Textbox(value, label=label, info=info, elem_id=name, max_length=LONGEST, min_width=min_width)


def _picture(title: str, name: str) -> Any:
    with gradio.Column(min_width=140):
        gradio.Markdown(f"**{title}**")  # a label would cover the picture
        return gradio.Image(show_label=False, interactive=False, buttons=[], height=200, elem_id=name)
