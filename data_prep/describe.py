"""Step `describe`: write, for each pair, how the first image differs from the second and the second from the first."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from omegaconf import MISSING

from data_prep.compose import compose
from data_prep.files import CAPTION_KEYS, PAIR_KEYS, Row, image_path, read_jsonl, write_jsonl
from data_prep.line_index import LineIndex
from data_prep.llm.journal import failures_path
from data_prep.llm.options import ModelOptions
from data_prep.llm.prompt import Prompt
from data_prep.llm.step import ask, checked_prompt
from data_prep.llm.task import Question, Requests
from data_prep.lock import locks_output
from data_prep.manifest import Manifest
from data_prep.parts import Part
from data_prep.progress import progress
from data_prep.world.describer import describe as describe_scenes
from data_prep.world.scene import Scene

STEP_VERSION = 7
MODEL_BACKENDS = ("openai", "batch")
ANSWER = ("text", "reverse_text")
SIDES = ("first", "second")
CACHED_IMAGES = 1024


@dataclass
class Options(ModelOptions):
    """Options of the step; those of `ModelOptions` concern the backends `openai` and `batch` alone.

    Attributes:
        pairs: The `pairs.jsonl` to describe.
        captions: The `captions.jsonl` with the images of the pairs.
        output: The `differences.jsonl` to write.
        backend: Who describes: `scene` (the embedded world's own describer), `compose` (templates that join two captions,
            a baseline), `openai` (a language model behind an endpoint) or `batch` (the same by batch files).
        seed: Seed of the wording, for `scene` and `compose`.
        captions_per_image: How many captions of each image the model gets, the first ones; None is all.
        with_images: Show the model the two images.
        picture_size: With `with_images`: the longer side that images are shrunk to, in pixels.
    """

    pairs: str = MISSING
    captions: str = MISSING
    output: str = MISSING
    backend: str = "scene"
    seed: int = 0
    captions_per_image: int | None = None
    with_images: bool = False
    picture_size: int = 512
    prompt: str = field(default="difference", kw_only=True)


class Pairs:
    """The pairs of a part with their images' rows.

    Args:
        pairs: The `pairs.jsonl`.
        captions: Index of the `captions.jsonl` by id.
        part: The part; all pairs of a group are in the same one.
    """

    def __init__(self, pairs: Path, captions: LineIndex, part: Part) -> None:
        self._pairs, self.captions, self._part = pairs, captions, part
        self._image = lru_cache(CACHED_IMAGES)(captions.get)  # pairs of a group share images

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """(Line number, pair) of all pairs."""
        return ((number, row) for number, row in read_jsonl(self._pairs, PAIR_KEYS) if self._part.holds(row["group"]))

    def images(self, number: int, pair: Row) -> tuple[Row, Row]:
        """Return the rows of a pair's two images.

        Raises:
            ValueError: An unknown image.
        """
        first, second = (self._image(pair[side]) for side in SIDES)
        if first is None or second is None:
            side = "first" if first is None else "second"
            raise ValueError(
                f"{self._pairs}, line {number}: `{side}` is {pair[side]!r}, which {self.captions.path} does not have"
            )
        return first, second


class PairTask:
    """Both directions of each pair, asked of a language model in one request."""

    id_key = "pair_id"
    sampled = False

    def __init__(self, pairs: Pairs, prompt: Prompt, options: Options) -> None:
        self.pairs, self.prompt, self._options = pairs, prompt, options

    def ids(self) -> Iterator[str]:
        """Ids of all pairs."""
        return (pair["pair_id"] for _, pair in self.pairs)

    def questions(self, wanted: Iterable[bool]) -> Iterator[Question]:
        """The pairs that are wanted, with captions and images.

        Raises:
            ValueError: A pair of an unknown image, or an image without captions where the prompt needs them.
        """
        for (number, row), want in zip(self.pairs, wanted, strict=True):
            if want:
                pair = {key: row[key] for key in PAIR_KEYS}
                images = self.pairs.images(number, row)
                values = {side: self._captions(image, side) for side, image in zip(SIDES, images, strict=True)}
                shown = images if self._options.with_images else ()
                pictures = tuple(image_path(self.pairs.captions.path, image) for image in shown)
                yield Question(pair["pair_id"], pair, values, pictures)

    def _captions(self, row: Row, placeholder: str) -> str:
        if placeholder in self.prompt.placeholders and not row["captions"]:
            raise ValueError(f"{self.pairs.captions.path}: image {row['id']!r} has no captions to describe it by")
        return "\n".join(str(caption).strip() for caption in row["captions"][: self._options.captions_per_image])


@locks_output
def run(options: Options) -> None:
    """Read `pairs` and `captions`, write `output`.

    Raises:
        FileNotFoundError: An input is missing.
        ValueError: A bad option, prompt or row, a pair of an unknown image, an image that the backend cannot describe, an
            output of other settings, or an endpoint with which it is useless to go on.
    """
    if options.backend not in (*DESCRIBERS, *MODEL_BACKENDS):
        known = ", ".join((*DESCRIBERS, *MODEL_BACKENDS))
        raise ValueError(f"describe.backend: unknown backend {options.backend!r}; choose one of {known}")
    pairs, captions, output = Path(options.pairs), Path(options.captions), Path(options.output)
    for file in (pairs, captions):
        if not file.is_file():
            raise FileNotFoundError(f"{file}: file not found; check the path, or run the step that writes it first")
    inputs: dict[str, str | Path] = {"pairs": pairs, "captions": captions}
    if options.backend in MODEL_BACKENDS:
        _ask_model(options, pairs, captions, output, inputs)
    else:
        _describe(options, pairs, captions, output, inputs)


def _ask_model(options: Options, pairs: Path, captions: Path, output: Path, inputs: dict[str, str | Path]) -> None:
    prompt = checked_prompt("describe", options, SIDES, ANSWER)
    if not options.with_images and prompt.placeholders != {"first", "second"}:
        raise ValueError(f"{options.prompt}: `user` must hold {{first}} and {{second}}, or with_images must be true")
    if options.captions_per_image is not None and options.captions_per_image < 1:
        raise ValueError(f"describe.captions_per_image must be at least 1, found {options.captions_per_image}")
    requests = Requests(options, prompt, options.picture_size if options.with_images else None)
    described = {"describer": f"openai:{options.model}", **requests.settings}
    settings = {**described, "captions_per_image": options.captions_per_image, "part": options.part}
    manifest = Manifest("describe", STEP_VERSION, inputs, settings)
    again = options.retry_failed and failures_path(output).exists()
    if manifest.matches(output, resumes=True) and not again and not options.dry_run:
        print(f"{output} is up to date")
        return
    with LineIndex(captions, CAPTION_KEYS, "id", unique=True) as index:
        task = PairTask(Pairs(pairs, index, Part.parse(options.part, "describe.part")), prompt, options)
        totals = ask(manifest, task, requests, options, output, batch=options.backend == "batch")
    if totals is not None:
        manifest.write(output, totals.counts(options))


def _describe(options: Options, pairs: Path, captions: Path, output: Path, inputs: dict[str, str | Path]) -> None:
    part = Part.parse(options.part, "describe.part")
    settings = {"describer": options.backend, "seed": options.seed, "part": options.part}
    manifest = Manifest("describe", STEP_VERSION, inputs, settings)
    if manifest.matches(output):
        print(f"{output} is up to date")
        return
    if output.exists() and any("key" in row for _, row in read_jsonl(output, {})):
        raise ValueError(
            f"{output}: holds texts of a language model, which backend `{options.backend}` would replace; "
            "choose another `output`, or delete the file"
        )
    describer = DESCRIBERS[options.backend]
    silent = 0

    def rows(source: Pairs) -> Iterator[Row]:
        nonlocal silent
        for number, pair in progress(source, total=total, desc="describe", unit="pair"):
            texts = describer(options.seed, pair["pair_id"], *source.images(number, pair))
            if texts is None:
                silent += 1
                continue
            yield {**{key: pair[key] for key in PAIR_KEYS}, "text": texts[0], "reverse_text": texts[1]}

    with LineIndex(captions, CAPTION_KEYS, "id", unique=True) as index:
        source = Pairs(pairs, index, part)
        total = sum(1 for _ in source)
        described = write_jsonl(output, rows(source))
    manifest.write(output, {"pairs": total, "described": described, "no_difference": silent})
    print(f"{output}: {described} of {total} pairs described")


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


def describe_by_templates(seed: int, pair_id: str, first: Row, second: Row) -> tuple[str, str]:
    """Both directions from one caption of each image; see `compose`.

    Raises:
        ValueError: An image without captions.
    """
    for row in (first, second):
        if not row["captions"]:
            raise ValueError(f"image {row['id']!r} has no captions to describe it by")
    return compose(seed, pair_id, first["captions"], second["captions"])


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
    "compose": describe_by_templates,
}
