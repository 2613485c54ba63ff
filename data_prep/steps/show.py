"""Step `show`: a page of sample pairs with their pictures, captions and texts, to look at before training."""

from __future__ import annotations

import random
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from data_prep.files import CAPTION_KEYS, DIFFERENCE_KEYS, Row, image_path, read_jsonl
from data_prep.images import read_bytes
from data_prep.shard_check import Findings, RawGroup, read_groups
from data_prep.step import Step, at_least
from data_prep.steps.pair_page import SampleImage, SamplePair, write_page
from pcclip.data.format import IMAGE_EXTENSIONS, DatasetInfo, GroupRecord, parse_group
from pcclip.data.pictures import UnreadableImageError


@dataclass(kw_only=True)
class Show(Step):
    """Write a page of sample pairs with their pictures, captions and texts, to look at before training."""

    name: ClassVar[str] = "show"

    output: str
    """The page to write (`.html`)."""
    shards: str | None = None
    """A folder of image shards to draw pairs from; or else give the two below."""
    differences: str | None = None
    """`differences.jsonl`, `screened.jsonl`, or `screened.rejected.jsonl` with its reasons."""
    captions: list[str] = field(default_factory=list)
    """The `captions.jsonl` files of the images in it."""
    pairs: int = field(default=12, metadata=at_least(1))
    """How many pairs to draw."""
    seed: int = 0
    """Seed of the drawing."""

    def check_options(self) -> None:
        """Check the page's name, and that there is one source."""
        if Path(self.output).suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"show.output: {self.output} must end in .html")
        if (self.shards is None) == (self.differences is None):
            raise ValueError("show: give either `shards`, or `differences` and `captions`")

    def work(self) -> None:
        """Draw pairs and write them to `output`.

        Raises:
            FileNotFoundError: An input is missing.
            ValueError: A row is bad, or there is no pair to show.
        """
        if self.shards is not None:
            source = Path(self.shards)
            pairs = pairs_from_shards(source, self.pairs, self.seed)
        else:
            source = Path(str(self.differences))
            pairs = pairs_from_rows(source, [Path(file) for file in self.captions], self.pairs, self.seed)
        if not pairs:
            raise ValueError(f"{source}: holds no pair to show")
        write_page(Path(self.output), str(source), pairs)
        print(f"{self.output}: {len(pairs)} pairs of {source}")


def pairs_from_shards(folder: Path, count: int, seed: int) -> list[SamplePair]:
    """Draw pairs from as many different groups as there are, each with the text of its reverse if it has one.

    Raises:
        FileNotFoundError, ValueError: As `DatasetInfo.read`, or the shards hold embeddings.
    """
    info = DatasetInfo.read(folder)
    if info.kind != "images":
        raise ValueError(f"{folder}: holds embeddings, no pictures; give the image shards that they were made from")
    draw = random.Random(seed)
    places = (
        draw.choices(range(info.groups), k=count) if count > info.groups else draw.sample(range(info.groups), count)
    )
    pairs: list[SamplePair] = []
    first = 0
    for shard in info.shards:
        here = [place - first for place in places if first <= place < first + shard.groups]
        first += shard.groups
        path = folder / shard.name
        try:
            for number, group in enumerate(read_groups(path, Findings()) if here else ()):
                if number in here:
                    record = parse_group(group.members.get("json", b""), f"{path}: group {group.key}")
                    times = here.count(number) if record["pairs"] else 0
                    where = f"{shard.name}, group {group.key}"
                    pairs += [_drawn_pair(where, group, record, draw) for _ in range(times)]
        except tarfile.TarError as error:
            raise ValueError(f"{path}: {error}; see what else is wrong with `pcclip-data verify`") from error
    return pairs


def _drawn_pair(where: str, group: RawGroup, record: GroupRecord, draw: random.Random) -> SamplePair:
    pair = draw.choice(record["pairs"])
    reverse = [
        other["text"]
        for other in record["pairs"]
        if (other["first"], other["second"]) == (pair["second"], pair["first"])
    ]

    def image(index: int) -> SampleImage:
        names = [f"{index:02d}.{extension}" for extension in IMAGE_EXTENSIONS]
        payload = next((group.members[name] for name in names if name in group.members), None)
        return SampleImage(record["images"][index]["id"], record["images"][index]["captions"], payload)

    return SamplePair(where, image(pair["first"]), image(pair["second"]), pair["text"], reverse[0] if reverse else None)


def pairs_from_rows(differences: Path, captions: list[Path], count: int, seed: int) -> list[SamplePair]:
    """Draw rows of a differences file, in the file's order.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A bad row, or an image that no captions file has.
    """
    rows = _drawn_rows(differences, count, random.Random(seed))
    wanted = {row[side] for row in rows for side in ("first", "second")}
    images = {}
    for file in captions:
        for _, row in read_jsonl(file, CAPTION_KEYS):
            if row["id"] in wanted:
                images[row["id"]] = SampleImage(row["id"], row["captions"], _payload(image_path(file, row)))
    if missing := sorted(wanted - images.keys()):
        raise ValueError(f"{differences}: image {missing[0]!r} is in none of the files given as show.captions")
    return [
        SamplePair(
            f"{row['group']} {row['pair_id']}",
            images[row["first"]],
            images[row["second"]],
            row["text"],
            row["reverse_text"],
            ": ".join(str(row[key]) for key in ("reason", "detail") if row.get(key)) or None,
        )
        for row in rows
    ]


def _drawn_rows(file: Path, count: int, draw: random.Random) -> list[Row]:
    """A sample of the rows, each as likely as any other, while holding no more than are drawn."""
    kept: list[tuple[int, Row]] = []
    for place, (number, row) in enumerate(read_jsonl(file, DIFFERENCE_KEYS)):
        if place < count:
            kept.append((number, row))
        elif (slot := draw.randrange(place + 1)) < count:
            kept[slot] = (number, row)
    return [row for _, row in sorted(kept, key=lambda entry: entry[0])]


def _payload(path: Path) -> bytes | None:
    try:
        return read_bytes(path)
    except UnreadableImageError:
        return None
