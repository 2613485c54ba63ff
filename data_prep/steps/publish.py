"""Step `publish`: upload shard folders to the Hugging Face Hub, with a dataset card."""

import html
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import NonNegativeInt

from data_prep.files import DIFFERENCE_KEYS, read_jsonl
from data_prep.step import INPUT, Step
from data_prep.steps.show import pairs_from_shards
from pcclip import __version__
from pcclip.data.folders import PLAIN_NAME
from pcclip.data.format import DATASET_FILE, DatasetInfo
from pcclip.hub import check_push, push
from pcclip.paths import sha256_of

TEMPLATES = Environment(loader=PackageLoader("data_prep", ""), undefined=StrictUndefined, keep_trailing_newline=True)


@dataclass(kw_only=True)
class Publish(Step):
    """Upload shard folders to a dataset repository on the Hugging Face Hub, with a dataset card."""

    shards: list[str]
    """Shard folders. Each is uploaded under its own name: `data.train` takes `hf://datasets/USER/NAME/train`."""
    repository: str
    """Repository on the Hugging Face Hub, USER/NAME. It is created if it does not exist."""
    license: str
    """Licence for the dataset card, as the Hugging Face Hub names it: cc-by-4.0, other, ..."""
    differences: list[str] = field(default_factory=list, metadata=INPUT)
    """The files of difference texts that the shards were made from. The card counts their models and prompts."""
    description: str = ""
    """Text for the card, such as where the pictures are from."""
    pairs: NonNegativeInt = 8
    """Number of sample pairs on the card, from the first folder."""
    seed: int = 0
    """Seed of the choice of sample pairs."""
    private: bool = False
    """Make the repository private when it is created."""
    yes: bool = False
    """Upload without a confirmation."""

    def check_options(self) -> None:
        names = [Path(folder).absolute().name for folder in self.shards]
        for name in names:
            if not PLAIN_NAME.fullmatch(name) or names.count(name) > 1:
                raise ValueError(f"publish.shards: {name!r} is named twice or has odd characters; rename the folder")
        if not names:
            raise ValueError("publish.shards: names no folder; name at least one")
        check_push(self.repository, self.yes)

    def work(self) -> None:
        """Check the folders, write the card and upload.

        Raises:
            FileNotFoundError: A folder or a shard is missing.
            ValueError: A shard is not as `dataset.json` says, or `differences` are not what the shards were made from.
            ConnectionError: The Hub cannot be reached, or refuses.
        """
        folders = {Path(folder).absolute().name: Path(folder).absolute() for folder in self.shards}
        infos = {name: DatasetInfo.read(folder) for name, folder in folders.items()}
        for name, info in infos.items():
            check_shards(folders[name], info)
        first = next(iter(infos))
        card = TEMPLATES.get_template("dataset_card.md.jinja").render(
            options=self,
            infos=infos,
            version=__version__,
            cell=table_cell,
            writers=count_writers(infos.values(), [Path(file) for file in self.differences]),
            samples=pairs_from_shards(folders[first], infos[first], self.pairs, random.Random(self.seed)),
        )
        with tempfile.TemporaryDirectory() as temporary:
            staged = Path(temporary)
            (staged / "README.md").write_text(card, encoding="utf-8")
            for name, info in infos.items():
                (staged / name).mkdir()
                for file in (DATASET_FILE, *(shard.name for shard in info.shards)):
                    (staged / name / file).symlink_to(folders[name] / file)
            stale = [f"{name}/*.tar" for name in infos]
            push(staged, self.repository, "dataset", private=self.private, yes=self.yes, replaces=stale)


def check_shards(folder: Path, info: DatasetInfo) -> None:
    """Check that the shards can be read from a remote folder: plain names, and the sha256 of `dataset.json`.

    Raises:
        ValueError: They cannot.
    """
    for shard in info.shards:
        if not PLAIN_NAME.fullmatch(shard.name):
            raise ValueError(f"{folder / shard.name}: the name has odd characters; rename it, also in {DATASET_FILE}")
        if sha256_of(folder / shard.name) != shard.sha256:
            raise ValueError(f"{folder / shard.name}: its sha256 is not that of {DATASET_FILE}; make the shards again")


def count_writers(infos: Iterable[DatasetInfo], differences: Sequence[Path]) -> Counter[tuple[str, str]]:
    """Count the rows of difference texts by their language model and prompt. Both are empty for texts of no model.

    Raises:
        ValueError: The shards record what they were made from, and it is another file.
    """
    packed = {
        digest
        for info in infos
        for role, digest in info.made_by.get("inputs", {}).items()
        if role.startswith("differences.")
    }
    counts: Counter[tuple[str, str]] = Counter()
    for file in differences:
        if packed and sha256_of(file) not in packed:
            raise ValueError(f"publish.differences: {file} is not what the shards were made from; name those files")
        counts.update((row.get("model", ""), row.get("prompt", "")) for _, row in read_jsonl(file, DIFFERENCE_KEYS))
    return counts


def table_cell(text: str) -> str:
    """Return a text as a cell of a Markdown table, without markup."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")
