"""The page of `pcclip demo`, made with Gradio: pictures ranked by a text, searched by a difference, models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio
import torch
from PIL import Image
from torch import Tensor

from pcclip.tools.gallery import Gallery
from pcclip.tools.model import Model, wordings
from pcclip.tools.ranking import score
from pcclip.tools.search import ExactIndex, search

SHOWN = 24  # pictures in the order of a ranking, spread evenly over it
FOUND = 8  # pictures that a search shows
THUMBNAIL = 224  # pixels
Tiles = list[tuple[Image.Image, str]]


@dataclass(frozen=True)
class Shown:
    """A model, and the pictures as it embeds them."""

    model: Model
    gallery: Gallery

    def ranked(self, more: str, less: str) -> Tiles:
        """Pictures from most to least; without an opposite, on the axis of the one text.

        Raises:
            ValueError: No text, or one that equals its opposite.
        """
        if less.strip():
            axis = self.model.axis(wordings(more, less))
        elif more.strip():
            axis = self.model.embed_texts([more.strip()])[0]
        else:
            raise ValueError("type what the first picture has more of")
        scores = score(self.model, self.gallery, axis)
        order = scores.argsort(descending=True, stable=True)
        places = torch.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().long()
        return [
            (self._thumbnail(index), f"{rank + 1}: {scores[index]:+.3f}")
            for rank, index in zip(places.tolist(), order[places].tolist(), strict=True)
        ]

    def found(self, picture: Image.Image | None, text: str, factor: float) -> Tiles:
        """Pictures nearest to `picture + factor * text`.

        Raises:
            ValueError: No picture or no text.
        """
        if picture is None or not text.strip():
            raise ValueError("give a picture, and a text on how the wanted one, the first, differs from it")
        image = self.model.embed([picture]).embeddings[0]
        shift: Tensor = self.model.shift(self.model.embed_texts([text.strip()])[0]).cpu()
        rows = search(self.gallery, ExactIndex(self.gallery), image, shift, factor=factor, count=FOUND)
        return [(self._thumbnail(row.index), f"{row.cosine:.3f}") for row in rows]

    def _thumbnail(self, index: int) -> Image.Image:
        picture = self.gallery.pick(index) or Image.new("RGB", (THUMBNAIL, THUMBNAIL), "grey")
        scale = THUMBNAIL / max(picture.size)
        return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def build_page(models: Mapping[str, Shown]) -> Any:
    """The page, not yet served.

    Args:
        models: Name to model; their pictures are shown side by side.
    """

    def everywhere(method: str, *arguments: Any) -> list[Tiles]:
        try:
            return [getattr(shown, method)(*arguments) for shown in models.values()]
        except ValueError as error:
            raise gradio.Error(str(error), print_exception=False) from error

    first = next(iter(models.values())).gallery
    with gradio.Blocks(title="pcclip", analytics_enabled=False) as page:
        gradio.Markdown(f"# pcclip\n{len(first.pictures)} pictures, {', '.join(models)}")
        with gradio.Tab("Rank"):
            with gradio.Row():
                more = gradio.Textbox(label="The first picture has more of it", elem_id="more", max_length=500)
                less = gradio.Textbox(label="The opposite (may be left out)", elem_id="less", max_length=500)
                go = gradio.Button("Rank", variant="primary", elem_id="rank", scale=0)
            galleries = _galleries(models, "ranked", "from most to least")
            gradio.on(
                [more.submit, less.submit, go.click],
                lambda more, less: everywhere("ranked", more, less),
                [more, less],
                galleries,
            )
        with gradio.Tab("Search"):
            with gradio.Row():
                picture = gradio.Image(label="A picture", type="pil", sources=["upload"], height=240)
                with gradio.Column():
                    text = gradio.Textbox(label="How the wanted picture, the first, differs from it", max_length=500)
                    factor = gradio.Slider(0, 3, value=1, step=0.1, label="lambda")
                    seek = gradio.Button("Search", variant="primary")
            results = _galleries(models, "found", "nearest to picture + lambda x difference")
            gradio.on(
                [text.submit, seek.click, factor.release],
                lambda picture, text, factor: everywhere("found", picture, text, factor),
                [picture, text, factor],
                results,
            )
    return page


def _galleries(models: Mapping[str, Shown], role: str, what: str) -> Sequence[Any]:
    with gradio.Row():
        return [
            gradio.Gallery(
                label=f"{name}: {what}",
                elem_id=f"{role}-{number}",
                columns=8 if len(models) == 1 else 4,
                height="auto",
                object_fit="contain",
                allow_preview=False,
                interactive=False,
            )
            for number, name in enumerate(models)
        ]
