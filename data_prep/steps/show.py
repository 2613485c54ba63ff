"""Step `show`: write an HTML page of sample pairs with images, captions and texts, to look at before training."""

import random
from collections import Counter
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import cycle, islice
from operator import itemgetter
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import PositiveInt

from data_prep.files import CAPTION_KEYS, DIFFERENCE_KEYS, EMBEDDING_ROW, Row, image_path, read_jsonl
from data_prep.images import data_url, read_bytes
from data_prep.step import Step
from pcclip.atomic import atomic_text
from pcclip.data.format import IMAGE_EXTENSIONS, DatasetInfo
from pcclip.data.groups import Sample, read_samples
from pcclip.data.pictures import UnreadableImageError
from pcclip.data.record import GroupRecord

SIDES = ("first", "second")
THUMBNAIL = 448  # pixels; shown at half the size, for high-resolution screens
ENVIRONMENT = Environment(loader=PackageLoader("data_prep", ""), autoescape=True, undefined=StrictUndefined)


@dataclass(kw_only=True)
class Show(Step):
    """Write an HTML page of sample pairs with images, captions and texts, to look at before training."""

    output: str
    """The page to write (`.html`)."""
    shards: str | None = None
    """Folder of image shards to draw pairs from. Alternatively set `differences` and `captions`."""
    differences: str | None = None
    """A `differences.jsonl` or `screened.jsonl`, or a `screened.rejected.jsonl` to show with reasons."""
    captions: list[str] = field(default_factory=list)
    """The `captions.jsonl` files of its images."""
    pairs: PositiveInt = 12
    """Number of pairs to draw."""
    seed: int = 0
    """Seed of the random choice."""

    def check_options(self) -> None:
        if Path(self.output).suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"show.output: {self.output} must end in .html")
        if (self.shards is None) == (self.differences is None):
            raise ValueError("show: set either `shards`, or `differences` and `captions`")

    def work(self) -> None:
        draw = random.Random(self.seed)
        source = Path(str(self.shards or self.differences))
        if self.shards:
            info = DatasetInfo.read(source)
            if info.kind != "images":
                raise ValueError(
                    f"{source}: contains embeddings, not images; name the image shards that they were made from, or set "
                    "`differences` and `captions`"
                )
            pairs = pairs_from_shards(source, info, self.pairs, draw)
        else:
            pairs = pairs_from_rows(source, [Path(file) for file in self.captions], self.pairs, draw)
        if not pairs:
            raise ValueError(f"{source}: found no pair to show")
        with atomic_text(Path(self.output)) as stream:
            stream.write(ENVIRONMENT.get_template("pairs.html.jinja").render(source=str(source), pairs=pairs))
        print(f"{self.output}: {len(pairs)} pairs of {source}")


def pairs_from_shards(folder: Path, info: DatasetInfo, count: int, draw: random.Random) -> list[Row]:
    """Draw pairs with their reverse texts, from as many groups as possible. Return the values for the template.

    Damaged groups are skipped with a warning. Groups of embeddings have no images, only captions.
    """
    wanted = Counter(islice(cycle(draw.sample(range(info.groups), info.groups)), count))
    pairs: list[Row] = []
    first = 0
    for shard in info.shards:
        if not wanted.keys().isdisjoint(range(first, first + shard.groups)):
            for number, sample in enumerate(read_samples(folder / shard.name, shard.groups), start=first):
                record = sample.record()
                times = wanted[number] if record["pairs"] else 0
                pairs += [_drawn_pair(sample, record, draw) for _ in range(times)]
        first += shard.groups
    return pairs


def _drawn_pair(sample: Sample, record: GroupRecord, draw: random.Random) -> Row:
    pair = draw.choice(record["pairs"])
    back = (pair["second"], pair["first"])
    reverse = next((other["text"] for other in record["pairs"] if (other["first"], other["second"]) == back), None)

    def image(index: int) -> Row:
        names = [f"{index:02d}.{extension}" for extension in IMAGE_EXTENSIONS]
        payload = next((sample.members[name] for name in names if name in sample.members), b"")
        return {**record["images"][index], "source": _thumbnail(payload)}

    sides = {side: image(pair[side]) for side in ("first", "second")}
    return {"where": Path(sample.where).name, **sides, "text": pair["text"], "reverse_text": reverse, "reason": ""}


def pairs_from_rows(differences: Path, captions: list[Path], count: int, draw: random.Random) -> list[Row]:
    """Draw rows of a differences file, and return the values for the template in the order of the file.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A row is bad, or an image is in no captions file.
    """
    # Only the sample is kept in memory.
    sample = nsmallest(count, read_jsonl(differences, DIFFERENCE_KEYS), key=lambda _: draw.random())
    rows = [row for _, row in sorted(sample, key=itemgetter(0))]
    wanted = {row[side] for row in rows for side in SIDES}
    images = {}
    for file in captions:
        for _, row in read_jsonl(file, CAPTION_KEYS):
            if row["id"] in wanted:
                images[row["id"]] = {
                    **row,
                    "source": _thumbnail(b"" if EMBEDDING_ROW in row else image_path(file, row)),
                }
    if missing := sorted(wanted - images.keys()):
        raise ValueError(f"{differences}: image {missing[0]!r} is in none of the files of show.captions")
    return [
        {
            **row,
            **{side: images[row[side]] for side in SIDES},
            "where": f"{row['group']} {row['pair_id']}",
            "reason": ": ".join(str(row[key]) for key in ("reason", "detail") if row.get(key)),
        }
        for row in rows
    ]


def _thumbnail(image: bytes | Path) -> str | None:
    """Return a small image as a data URI, or None if the image is unreadable."""
    try:
        payload = read_bytes(image) if isinstance(image, Path) else image
        return data_url(payload, "image", THUMBNAIL)
    except UnreadableImageError:
        return None
