"""Step `show`: a page of sample pairs with their pictures, captions and texts, to look at before training."""

import base64
import random
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import PositiveInt

from data_prep.files import CAPTION_KEYS, DIFFERENCE_KEYS, Row, image_path, read_jsonl
from data_prep.images import encode_image, read_bytes
from data_prep.shard_check import Findings, RawGroup, read_groups
from data_prep.step import Step
from pcclip.atomic import atomic_text
from pcclip.data.format import IMAGE_EXTENSIONS, DatasetInfo
from pcclip.data.pictures import UnreadableImageError
from pcclip.data.record import GroupRecord, parse_group

THUMBNAIL = 448  # pixels; shown at half of it on the usual dense screens
MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
ENVIRONMENT = Environment(loader=PackageLoader("data_prep", ""), autoescape=True, undefined=StrictUndefined)


@dataclass(kw_only=True)
class Show(Step):
    """Write a page of sample pairs with their pictures, captions and texts, to look at before training."""

    output: str
    """The page to write (`.html`)."""
    shards: str | None = None
    """A folder of image shards to draw pairs from; or else give the two below."""
    differences: str | None = None
    """`differences.jsonl`, `screened.jsonl`, or `screened.rejected.jsonl` with its reasons."""
    captions: list[str] = field(default_factory=list)
    """The `captions.jsonl` files of the images in it."""
    pairs: PositiveInt = 12
    """How many pairs to draw."""
    seed: int = 0
    """Seed of the drawing."""

    def check_options(self) -> None:
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
        with atomic_text(Path(self.output)) as stream:
            stream.write(ENVIRONMENT.get_template("pairs.html.jinja").render(source=str(source), pairs=pairs))
        print(f"{self.output}: {len(pairs)} pairs of {source}")


def pairs_from_shards(folder: Path, count: int, seed: int) -> list[Row]:
    """Return what the page shows of pairs, drawn from as many different groups as there are, each with its reverse if any.

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
    pairs: list[Row] = []
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


def _drawn_pair(where: str, group: RawGroup, record: GroupRecord, draw: random.Random) -> Row:
    pair = draw.choice(record["pairs"])
    back = (pair["second"], pair["first"])
    reverse = next((other["text"] for other in record["pairs"] if (other["first"], other["second"]) == back), None)

    def image(index: int) -> Row:
        names = [f"{index:02d}.{extension}" for extension in IMAGE_EXTENSIONS]
        payload = next((group.members[name] for name in names if name in group.members), b"")
        return {**record["images"][index], "source": _thumbnail(payload)}

    sides = {side: image(pair[side]) for side in ("first", "second")}
    return {"where": where, **sides, "text": pair["text"], "reverse_text": reverse, "reason": ""}


def pairs_from_rows(differences: Path, captions: list[Path], count: int, seed: int) -> list[Row]:
    """Draw rows of a differences file, in the file's order.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A bad row, or an image that no captions file has.
    """
    rows = drawn_rows(differences, count, random.Random(seed))
    wanted = {row[side] for row in rows for side in ("first", "second")}
    images = {}
    for file in captions:
        for _, row in read_jsonl(file, CAPTION_KEYS):
            if row["id"] in wanted:
                images[row["id"]] = {**row, "source": _thumbnail(image_path(file, row))}
    if missing := sorted(wanted - images.keys()):
        raise ValueError(f"{differences}: image {missing[0]!r} is in none of the files given as show.captions")
    return [
        {
            **row,
            "where": f"{row['group']} {row['pair_id']}",
            "first": images[row["first"]],
            "second": images[row["second"]],
            "reason": ": ".join(str(row[key]) for key in ("reason", "detail") if row.get(key)),
        }
        for row in rows
    ]


def drawn_rows(file: Path, count: int, draw: random.Random) -> list[Row]:
    """Return a random sample of the rows in the file's order. The file is read twice, and only the sample is held."""
    total = sum(1 for _ in read_jsonl(file, DIFFERENCE_KEYS))
    drawn = set(draw.sample(range(total), min(count, total)))
    return [row for place, (_, row) in enumerate(read_jsonl(file, DIFFERENCE_KEYS)) if place in drawn]


def _thumbnail(image: bytes | Path) -> str | None:
    """Return a small image as a data URI, None if it cannot be read."""
    try:
        payload = read_bytes(image) if isinstance(image, Path) else image
        stored = encode_image(payload, "image", THUMBNAIL, quality=85)
    except UnreadableImageError:
        return None
    return f"data:{MEDIA_TYPES[stored.extension]};base64,{base64.b64encode(stored.payload).decode()}"
