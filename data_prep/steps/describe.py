"""Step `describe`: write how the two images of each pair differ, in both directions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import PositiveInt

from data_prep.columns.column_texts import TableTexts
from data_prep.files import CAPTION_KEYS, EMBEDDING_ROW, PAIR_KEYS, Row, image_path, read_jsonl, write_jsonl
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
    "{first} in the first image, {second} in the second.",  # "first" and "second" follow what they refer to
    "{first} can be seen in the first image, whereas the second shows {second}.",
    "There is {first} in the first image; in contrast, there is {second} in the second.",
)


@dataclass(kw_only=True)
class Describe(ModelStep):
    """Write how the two images of each pair differ, in both directions.

    The options of endpoint, sampling, rate limits and cost apply to the backends `openai` and `batch`.
    """

    version: ClassVar[int] = 10

    pairs: str = field(metadata=INPUT)
    """Pairs to describe (`pairs.jsonl`)."""
    captions: str = field(metadata=INPUT)
    """Captions of their images (`captions.jsonl`)."""
    backend: Literal["scene", "compose", "attributes", "openai", "batch"] = "scene"
    """`scene`: the describer of the embedded world. `compose`: templates that join two captions, a baseline. `attributes`:
    sentences about the columns of `captions`, with the words in `words`. `openai`: a language model at an endpoint.
    `batch`: a language model by batch files."""
    words: str | None = field(default=None, metadata=INPUT)
    """YAML file of the words for each column, for `attributes`."""
    seed: int = 0
    """Seed of the wording, for `scene`, `compose` and `attributes`."""
    captions_per_image: PositiveInt | None = None
    """Number of captions per image that the model gets. Null: all."""
    with_images: bool = False
    """Send the two images to the model."""
    picture_size: int = 512
    """Maximum longer side of sent images in pixels."""
    prompt: str = "difference"

    def check_options(self) -> None:
        if (self.backend == "attributes") != (self.words is not None):
            raise ValueError(
                "describe.words: the YAML file of the words for the columns; set it for backend `attributes`, and only for it"
            )
        super().check_options()

    @cached_property
    def requests(self) -> Requests:
        fields = {"text": Text, "reverse_text": Text}
        requests = Requests("describe", self, SIDES, fields, self.picture_size if self.with_images else None)
        if not self.with_images and requests.prompt.placeholders != set(SIDES):
            raise ValueError(f"{self.prompt}: `user` must contain {{first}} and {{second}}; or set with_images")
        return requests

    def make(self, manifest: Manifest) -> Made | None:
        """Describe the pairs.

        Raises:
            ValueError: A row is invalid, an image is unknown or cannot be described, the output has other settings, or an
                error affects all questions.
        """
        with LineIndex([Path(self.captions)], CAPTION_KEYS, "id") as index:
            pairs = CaptionedPairs(Path(self.pairs), index, self.own_part)
            return self.ask(self._task(pairs)) if self.asks_model else self._describe(pairs)

    def _task(self, pairs: CaptionedPairs) -> QuestionList:
        """Return one question per pair, which asks for both directions."""
        used = self.requests.prompt.placeholders

        def question(number: int, pair: Row) -> Question:
            images = dict(zip(SIDES, pairs.images(number, pair), strict=True))
            values = {side: pairs.captions_of(images[side], self.captions_per_image) for side in SIDES if side in used}
            shown = images.values() if self.with_images else ()
            if stored := [image["id"] for image in shown if EMBEDDING_ROW in image]:
                raise ValueError(
                    f"describe.with_images: image {stored[0]!r} of {self.captions} has a stored embedding and no picture"
                )
            pictures = tuple(image_path(Path(self.captions), image) for image in shown)
            return Question(pair["pair_id"], {key: pair[key] for key in PAIR_KEYS}, values, pictures)

        return QuestionList(
            "pair_id", lambda: ((pair["pair_id"], partial(question, number, pair)) for number, pair in pairs)
        )

    def _describe(self, pairs: CaptionedPairs) -> Made:
        output = Path(self.output)
        if output.exists() and any("key" in row for _, row in read_jsonl(output, {})):
            raise ValueError(
                f"{output}: has texts of a language model, which backend `{self.backend}` would replace; "
                "choose another `output`, or delete the file"
            )
        describer = TableTexts(self.words, Path(self.captions)) if self.words else DESCRIBERS[self.backend]
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
    """Pairs of a part, with the captions rows of their images.

    Args:
        pairs: JSON Lines file of pairs.
        captions: Index of the captions by image id.
        part: The part. All pairs of a group are in the same part.
        keys: Keys that each row must have, and their types.
    """

    def __init__(self, pairs: Path, captions: LineIndex, part: Part, keys: Mapping[str, type] = PAIR_KEYS) -> None:
        self._pairs, self._captions, self._part, self._keys = pairs, captions, part, keys
        self._image = lru_cache(CACHED_IMAGES)(captions.get)  # pairs of a group share images

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """Yield (line number, pair)."""
        return ((number, row) for number, row in read_jsonl(self._pairs, self._keys) if self._part.holds(row["group"]))

    def images(self, number: int, pair: Row) -> tuple[Row, Row]:
        """Return the captions rows of the two images of a pair.

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
        """Return the first `most` captions of an image, one per line.

        Raises:
            ValueError: The image has no captions.
        """
        if not image["captions"]:
            raise ValueError(f"{self._captions.files[0]}: image {image['id']!r} has no captions")
        return "\n".join(str(caption).strip() for caption in image["captions"][:most])


def describe_by_scene(seed: int, pair_id: str, first: Row, second: Row) -> tuple[str, str] | None:
    """Return texts in both directions, from the attributes of the embedded world's pictures. None if the scenes are equal.

    The wording depends only on the seed and the pair.

    Raises:
        ValueError: An image has no such attributes.
    """
    a, b = scene_of(first), scene_of(second)
    rng = random.Random(f"{seed}/{pair_id}")
    text, reverse = describe_scenes(rng, a, b), describe_scenes(rng, b, a)
    return None if text is None or reverse is None else (text, reverse)


def compose(seed: int, pair_id: str, first: Row, second: Row) -> tuple[str, str]:
    """Return texts in both directions: a random caption of each image, joined by a random template.

    The choice depends only on the seed and the pair.

    Raises:
        ValueError: An image has no captions.
    """
    for row in (first, second):
        if not row["captions"]:
            raise ValueError(f"image {row['id']!r} has no captions; drop it, or choose another backend")
    rng = random.Random(f"{seed}/{pair_id}")
    a, b = phrase(rng.choice(first["captions"])), phrase(rng.choice(second["captions"]))
    text = rng.choice(TEMPLATES).format(first=a, second=b)
    reverse = rng.choice(TEMPLATES).format(first=b, second=a)
    return text[:1].upper() + text[1:], reverse[:1].upper() + reverse[1:]


def phrase(caption: str) -> str:
    """Return a caption for the middle of a sentence: without a final full stop, and with a lower-case article."""
    words = caption.strip().rstrip(".!;,").split()
    if words and words[0] in ("A", "An", "The", "Two", "Three", "Some", "Several", "Many", "There", "This", "People"):
        words[0] = words[0].lower()
    return " ".join(words)


def scene_of(row: Row) -> Scene:
    """Return the scene of a picture of the embedded world.

    Raises:
        ValueError: The row has no scene attributes.
    """
    try:
        return Scene.from_attributes(row["attributes"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"image {row['id']!r} has no scene attributes ({type(error).__name__}: {error}); "
            "backend `scene` knows only pictures made by `pcclip-data shapes`, so set another `backend`"
        ) from error


DESCRIBERS: dict[str, Callable[[int, str, Row, Row], tuple[str, str] | None]] = {
    "scene": describe_by_scene,
    "compose": compose,
}
