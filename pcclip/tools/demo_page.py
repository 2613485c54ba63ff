"""The page of `pcclip demo`, made with Gradio: pictures ranked by a text, searched by a difference, models side by side."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio
from PIL import Image

from pcclip.tools.library import Library, Shown, Tiles, uploaded

NOTHING = "nothing"  # next to the model
COLUMNS = 8
KEPT = 3600  # seconds that thumbnails and uploads stay in Gradio's folder of temporary files


def build_page(library: Library, pictures: str, model: str, second: str | None) -> Any:
    """Return the page, not yet served.

    Args:
        library: What can be chosen.
        pictures: The pictures that it opens with.
        model: The model that it opens with.
        second: A second model to compare with, if any.
    """
    with gradio.Blocks(title="pcclip", analytics_enabled=False, delete_cache=(KEPT, KEPT)) as page:
        with gradio.Row():
            chosen = [
                gradio.Dropdown(library.pictures, value=pictures, label="Pictures", elem_id="pictures"),
                gradio.Dropdown(library.models, value=model, label="Model", elem_id="model"),
                gradio.Dropdown(
                    [NOTHING, *library.models], value=second or NOTHING, label="Compare with", elem_id="second"
                ),
            ]
        with gradio.Tab("Rank"):
            with gradio.Row():
                more = gradio.Textbox(label="The first picture has more of it", elem_id="more", max_length=500)
                less = gradio.Textbox(label="The opposite (may be left out)", elem_id="less", max_length=500)
                go = gradio.Button("Rank", variant="primary", elem_id="rank", scale=0)
            rankings = _galleries("ranked", second)
        with gradio.Tab("Search"):
            with gradio.Row():
                with gradio.Column():
                    # Neither `gradio.Image` nor `file_types`: they end in a traceback when a file is no picture.
                    picture = gradio.File(label="A picture", elem_id="picture")
                    preview = gradio.Image(show_label=False, interactive=False, height=240, elem_id="preview")
                with gradio.Column():
                    text = gradio.Textbox(
                        label="How the wanted picture, the first, differs from it", elem_id="text", max_length=500
                    )
                    factor = gradio.Slider(0, 3, value=1, step=0.1, label="lambda", elem_id="lambda")
                    seek = gradio.Button("Search", variant="primary", elem_id="search")
            results = _galleries("found", second)

        def rank(pictures: str, model: str, second: str, more: str, less: str) -> list[Any]:
            return _side_by_side(library, pictures, model, second, [more, less], lambda shown: shown.ranked(more, less))

        def seeking(pictures: str, model: str, second: str, picture: str | None, text: str, factor: float) -> list[Any]:
            if picture is None:
                raise gradio.Error("Upload a picture to start from.", print_exception=False)
            if not text.strip():
                raise gradio.Error("Fill in the field: how the wanted picture differs.", print_exception=False)
            return _side_by_side(
                library, pictures, model, second, [text], lambda shown: shown.found(uploaded(picture), text, factor)
            )

        def previewed(picture: str | None) -> Image.Image | None:
            with _errors_shown():
                return None if picture is None else uploaded(picture)

        def again(pictures: str, model: str, second: str, picture: str | None, text: str, factor: float) -> list[Any]:
            if picture is None or not text.strip():
                return [gradio.Gallery(value=[]), gradio.Gallery(value=[], visible=second != NOTHING)]
            return seeking(pictures, model, second, picture, text, factor)

        asked, sought = [*chosen, more, less], [*chosen, picture, text, factor]
        changed = [each.input for each in chosen]
        latest: Any = {"trigger_mode": "always_last"}  # what is asked while another answer is made is answered next
        gradio.on([page.load, *changed, more.submit, less.submit, go.click], rank, asked, rankings, **latest)
        gradio.on([text.submit, seek.click, factor.release], seeking, sought, results, **latest)
        picture.change(previewed, picture, preview, show_progress="hidden", **latest)
        gradio.on(changed, again, sought, results, show_progress="hidden", **latest)
    return page


def _side_by_side(
    library: Library, pictures: str, model: str, second: str, texts: list[str], ask: Callable[[Shown], Tiles]
) -> list[Any]:
    """Fill the two galleries, or the first alone."""
    galleries: list[Any] = []
    names = [model] if second == NOTHING else [model, second]
    columns = COLUMNS // len(names)
    with _errors_shown():
        for name in names:
            shown = library.shown(pictures, name)
            for cut in shown.cut(*texts):
                gradio.Warning(f"text too long for {name}, cut off: ...{cut!r}")
            galleries.append(gradio.Gallery(value=ask(shown), label=name, columns=columns, visible=True))
    return galleries if len(galleries) == 2 else [*galleries, gradio.Gallery(value=[], visible=False)]


@contextmanager
def _errors_shown() -> Iterator[None]:
    """Show expected errors on the page, without a traceback on the terminal."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise gradio.Error(str(error), print_exception=False) from error


def _galleries(role: str, second: str | None) -> list[Any]:
    with gradio.Row():
        return [
            gradio.Gallery(
                elem_id=f"{role}-{number}",
                columns=COLUMNS if second is None else COLUMNS // 2,
                height="max-content",  # "auto" would scroll
                object_fit="contain",
                allow_preview=False,
                interactive=False,
                visible=number == 0 or second is not None,
            )
            for number in range(2)
        ]
