"""Step `describe`: write, for each pair, how the first image differs from the second and the second from the first."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import PositiveInt

from data_prep.files import CAPTION_KEYS, PAIR_KEYS, Row, image_path, read_jsonl, write_jsonl
from data_prep.line_index import LineIndex
from data_prep.llm.model_step import ModelStep
from data_prep.llm.questions import Question, QuestionList, Requests
from data_prep.llm.replies import Text
from data_prep.manifest import Manifest
from data_prep.parts import Part
from data_prep.progress import progress
from data_prep.step import INPUT, Made
from data_prep.world.describer import describe as describe_scenes
from data_prep.world.scene import Scene

SIDES = ("first", "second")
CACHED_IMAGES = 1024
TEMPLATES = (
    "The first image shows {first}, while the second image shows {second}.",
    "In the first image, {first}, whereas in the second image, {second}.",
    "The first image depicts {first}; the second depicts {second}.",
    "The first picture is of {first}, but the second is of {second}.",
    "While the first image has {first}, the second image has {second}.",
    "{first} in the first image, {second} in the second.",  # "first" and "second" behind what they speak of
    "{first} can be seen in the first image, whereas the second shows {second}.",
    "There is {first} in the first image; in contrast, there is {second} in the second.",
)


@dataclass(kw_only=True)
class Describe(ModelStep):
    """Write, for each pair, how the first image differs from the second and the second from the first.

    The options of endpoint, sampling, pace and money concern the backends `openai` and `batch` alone.
    """

    version: ClassVar[int] = 7

    pairs: str = field(metadata=INPUT)
    """The `pairs.jsonl` to describe."""
    captions: str = field(metadata=INPUT)
    """The `captions.jsonl` with the images of the pairs."""
    backend: Literal["scene", "compose", "openai", "batch"] = "scene"
    """Who describes: `scene` (the embedded world's own describer), `compose` (templates that join two captions, a
    baseline), `openai` (a language model behind an endpoint) or `batch` (the same by batch files)."""
    seed: int = 0
    """Seed of the wording, for `scene` and `compose`."""
    captions_per_image: PositiveInt | None = None
    """How many captions of each image the model gets, the first ones; None is all."""
    with_images: bool = False
    """Show the model the two images."""
    picture_size: int = 512
    """With `with_images`: the longer side that images are shrunk to, in pixels."""
    prompt: str = "difference"

    @cached_property
    def requests(self) -> Requests:
        """What makes the requests."""
        fields = {"text": Text, "reverse_text": Text}
        requests = Requests("describe", self, SIDES, fields, self.picture_size if self.with_images else None)
        if not self.with_images and requests.prompt.placeholders != set(SIDES):
            raise ValueError(f"{self.prompt}: `user` must hold {{first}} and {{second}}, or with_images must be true")
        return requests

    def make(self, manifest: Manifest) -> Made | None:
        """Describe the pairs.

        Raises:
            ValueError: A bad row, a pair of an unknown image, an image that the backend cannot describe, an output of other
                settings, or an endpoint with which it is useless to go on.
        """
        with LineIndex([Path(self.captions)], CAPTION_KEYS, "id") as index:
            pairs = CaptionedPairs(Path(self.pairs), index, self.own_part)
            return self.ask(self._task(pairs)) if self.asks_model else self._describe(pairs)

    def _task(self, pairs: CaptionedPairs) -> QuestionList:
        """Return both directions of each pair, asked in one request."""
        used = self.requests.prompt.placeholders

        def question(number: int, pair: Row) -> Question:
            images = dict(zip(SIDES, pairs.images(number, pair), strict=True))
            values = {side: pairs.captions_of(images[side], self.captions_per_image) for side in SIDES if side in used}
            shown = images.values() if self.with_images else ()
            pictures = tuple(image_path(Path(self.captions), image) for image in shown)
            return Question(pair["pair_id"], {key: pair[key] for key in PAIR_KEYS}, values, pictures)

        return QuestionList(
            "pair_id", lambda: ((pair["pair_id"], partial(question, number, pair)) for number, pair in pairs)
        )

    def _describe(self, pairs: CaptionedPairs) -> Made:
        output = Path(self.output)
        if output.exists() and any("key" in row for _, row in read_jsonl(output, {})):
            raise ValueError(
                f"{output}: holds texts of a language model, which backend `{self.backend}` would replace; "
                "choose another `output`, or delete the file"
            )
        describer = DESCRIBERS[self.backend]
        total = sum(1 for _ in pairs)
        silent = 0

        def rows() -> Iterator[Row]:
            nonlocal silent
            for number, pair in progress(pairs, total=total, desc="describe", unit="pair"):
                texts = describer(self.seed, pair["pair_id"], *pairs.images(number, pair))
                if texts is None:
                    silent += 1
                    continue
                yield {**{key: pair[key] for key in PAIR_KEYS}, "text": texts[0], "reverse_text": texts[1]}

        described = write_jsonl(output, rows())
        counts = {"pairs": total, "described": described, "no_difference": silent}
        return Made(counts, message=f"{described} of {total} pairs described")


class CaptionedPairs:
    """The pairs of a part with their images' rows.

    Args:
        pairs: The `pairs.jsonl`.
        captions: Index of the `captions.jsonl` by id.
        part: The part; all pairs of a group are in the same one.
        keys: What each row must hold.
    """

    def __init__(self, pairs: Path, captions: LineIndex, part: Part, keys: Mapping[str, type] = PAIR_KEYS) -> None:
        self._pairs, self._captions, self._part, self._keys = pairs, captions, part, keys
        self._image = lru_cache(CACHED_IMAGES)(captions.get)  # pairs of a group share images

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """(Line number, pair) of all pairs."""
        return ((number, row) for number, row in read_jsonl(self._pairs, self._keys) if self._part.holds(row["group"]))

    def images(self, number: int, pair: Row) -> tuple[Row, Row]:
        """Return the rows of a pair's two images.

        Raises:
            ValueError: An unknown image.
        """
        first, second = (self._image(pair[side]) for side in SIDES)
        if first is None or second is None:
            side = "first" if first is None else "second"
            raise ValueError(
                f"{self._pairs}, line {number}: `{side}` is {pair[side]!r}, which {self._captions.files[0]} does not have"
            )
        return first, second

    def captions_of(self, image: Row, most: int | None = None) -> str:
        """Return the first captions of an image, one a line.

        Raises:
            ValueError: It has none.
        """
        if not image["captions"]:
            raise ValueError(f"{self._captions.files[0]}: image {image['id']!r} has no captions")
        return "\n".join(str(caption).strip() for caption in image["captions"][:most])


def describe_by_scene(seed: int, pair_id: str, first: Row, second: Row) -> tuple[str, str] | None:
    """Both directions from the attributes that the embedded world's pictures carry, each in words of its own.

    Wording depends on the seed and the pair alone. None: the scenes do not differ.

    Raises:
        ValueError: An image without such attributes.
    """
    a, b = scene_of(first), scene_of(second)
    rng = random.Random(f"{seed}/{pair_id}")
    text, reverse = describe_scenes(rng, a, b), describe_scenes(rng, b, a)
    return None if text is None or reverse is None else (text, reverse)


def compose(seed: int, pair_id: str, first: Row, second: Row) -> tuple[str, str]:
    """Both directions from one caption of each image, joined by templates. Captions and templates are drawn.

    What is drawn depends on the seed and the pair alone, not on what else is described.

    Raises:
        ValueError: An image without captions.
    """
    for row in (first, second):
        if not row["captions"]:
            raise ValueError(f"image {row['id']!r} has no captions to describe it by")
    rng = random.Random(f"{seed}/{pair_id}")
    a, b = phrase(rng.choice(first["captions"])), phrase(rng.choice(second["captions"]))
    text = rng.choice(TEMPLATES).format(first=a, second=b)
    reverse = rng.choice(TEMPLATES).format(first=b, second=a)
    return text[:1].upper() + text[1:], reverse[:1].upper() + reverse[1:]


def phrase(caption: str) -> str:
    """A caption made fit for the middle of a sentence: no full stop, and a small letter for an article at its head."""
    words = caption.strip().rstrip(".!;,").split()
    if words and words[0] in ("A", "An", "The", "Two", "Three", "Some", "Several", "Many", "There", "This", "People"):
        words[0] = words[0].lower()
    return " ".join(words)


def scene_of(row: Row) -> Scene:
    """The scene of a picture of the embedded world.

    Raises:
        ValueError: An image without its attributes.
    """
    try:
        return Scene.from_attributes(row["attributes"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"image {row['id']!r} has no scene attributes ({type(error).__name__}: {error}); "
            "backend `scene` knows only pictures made by `pcclip-data shapes`"
        ) from error


DESCRIBERS: dict[str, Callable[[int, str, Row, Row], tuple[str, str] | None]] = {
    "scene": describe_by_scene,
    "compose": compose,
}
