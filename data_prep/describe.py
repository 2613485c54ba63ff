"""Step `describe`: write, for each pair, how the first image differs from the second and the second from the first."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from omegaconf import MISSING

from data_prep.files import PAIR_KEYS, Row, read_captions, read_jsonl, write_jsonl
from data_prep.manifest import Manifest
from data_prep.progress import progress
from data_prep.world.describer import describe as describe_scenes
from data_prep.world.scene import Scene
from pcclip.data.format import sha256_of

STEP_VERSION = 2


@dataclass
class Options:
    """Options of the step.

    Attributes:
        pairs: The `pairs.jsonl` to describe.
        captions: The `captions.jsonl` with the images of the pairs.
        output: The `differences.jsonl` to write.
        backend: Who describes: `scene` (the embedded world's own describer).
        seed: Seed of the wording.
    """

    pairs: str = MISSING
    captions: str = MISSING
    output: str = MISSING
    backend: str = "scene"
    seed: int = 0


class Describer(Protocol):
    """Whoever writes difference texts."""

    def describe(self, pair_id: str, first: Row, second: Row) -> tuple[str, str] | None:
        """Describe first against second and second against first, given their captions rows; None: nothing to say."""
        ...


class SceneDescriber:
    """The embedded world's describer, from the attributes that its pictures carry; stands in for a language model."""

    def __init__(self, options: Options) -> None:
        """Wording depends on the seed and the pair alone, not on what else is described."""
        self.seed = options.seed

    def describe(self, pair_id: str, first: Row, second: Row) -> tuple[str, str] | None:
        """Describe both directions, each in words of its own."""
        a, b = self._scene(first), self._scene(second)
        rng = random.Random(f"{self.seed}/{pair_id}")
        text, reverse = describe_scenes(rng, a, b), describe_scenes(rng, b, a)
        return None if text is None or reverse is None else (text, reverse)

    def _scene(self, row: Row) -> Scene:
        try:
            return Scene.from_attributes(row["attributes"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"image {row['id']!r} has no scene attributes ({type(error).__name__}: {error}); "
                "backend `scene` describes only pictures made by `pcclip-data shapes`"
            ) from error


BACKENDS: dict[str, Callable[[Options], Describer]] = {"scene": SceneDescriber}


def run(options: Options) -> None:
    """Read `pairs` and `captions`, write `output`.

    Raises:
        FileNotFoundError: An input is missing.
        ValueError: An unknown backend, a bad row, a pair of an unknown image, or an image that the backend cannot describe.
    """
    if options.backend not in BACKENDS:
        raise ValueError(f"describe.backend: unknown backend {options.backend!r}; choose one of {', '.join(BACKENDS)}")
    pairs, captions, output = Path(options.pairs), Path(options.captions), Path(options.output)
    images = {row["id"]: row for _, row in read_captions(captions)}
    total = sum(1 for _ in read_jsonl(pairs, PAIR_KEYS))
    manifest = Manifest(
        "describe",
        STEP_VERSION,
        {"pairs": sha256_of(pairs), "captions": sha256_of(captions)},
        {"backend": options.backend, "seed": options.seed},
    )
    if manifest.matches(output):
        print(f"{output} is up to date")
        return
    describer = BACKENDS[options.backend](options)
    silent = 0

    def rows() -> Iterator[Row]:
        nonlocal silent
        bar = progress(read_jsonl(pairs, PAIR_KEYS), total=total, desc="describe", unit="pair")
        for number, pair in bar:
            for side in ("first", "second"):
                if pair[side] not in images:
                    raise ValueError(
                        f"{pairs}, line {number}: `{side}` is {pair[side]!r}, which {captions} does not have"
                    )
            texts = describer.describe(pair["pair_id"], images[pair["first"]], images[pair["second"]])
            if texts is None:
                silent += 1
                continue
            yield {**{key: pair[key] for key in PAIR_KEYS}, "text": texts[0], "reverse_text": texts[1]}

    described = write_jsonl(output, rows())
    manifest.write(output, {"pairs": total, "described": described, "no_difference": silent})
    print(f"{output}: {described} of {total} pairs described")
