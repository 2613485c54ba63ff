"""How fast `pcclip rank` is: `python -m benchmarks.rank`.

- *kept*: pictures whose embeddings are in the cache are found, scored and written in their order. The model is loaded, its
  loading not counted.
- *from files*: pictures are read, decoded and embedded without a cache, beside a bare loop over the image tower on as many
  batches of one picture, in turns. Weights are random unless `--pretrained` says otherwise; they change no time.
- *help*: `pcclip --help`, a process of its own.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from PIL import Image

from benchmarks.measure import Taken, alternate, report
from pcclip.atomic import atomic_text
from pcclip.data.embedding_store import EmbeddingStore
from pcclip.data.labelled import ImageFile
from pcclip.model import DifferenceCLIP, load_clip
from pcclip.tools.gallery import embed_pictures
from pcclip.tools.inference import InferenceModel, wordings
from pcclip.tools.picture_command import write_rows
from pcclip.tools.picture_sources import find_pictures
from pcclip.tools.rank import COLUMNS, table


def draw(folder: Path, count: int, side: int) -> Path:
    """Noise of several contrasts, as JPEG files."""
    folder.mkdir()
    for number in range(count):
        noise = Image.effect_noise((side, side), 50 + number % 100).convert("RGB")
        noise.save(folder / f"{number:06d}.jpg")
    return folder


def rank(model: InferenceModel, folder: Path, store: EmbeddingStore) -> None:
    """What `pcclip rank` does once the model is loaded."""
    gallery = embed_pictures(model.clip, find_pictures([folder]), store=store)
    axis = model.axis(wordings("the first is larger", "the first is smaller"))
    with atomic_text(folder.parent / "ranked.csv") as stream:
        write_rows(stream, COLUMNS, table(gallery, model.scores(gallery, axis)))


@torch.no_grad()
def bare_loop(clip: DifferenceCLIP, picture: Path, batches: int, batch_size: int) -> None:
    """The image tower alone."""
    batch = torch.stack([clip.image_transform(Image.open(picture).convert("RGB"))] * batch_size)
    for _ in range(batches):
        clip.encode_images(batch)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--pretrained")
    parser.add_argument("--kept", type=int, default=10_000, help="pictures whose embeddings are kept")
    parser.add_argument("--side", type=int, default=64, help="of these, in pixels")
    parser.add_argument("--batches", type=int, default=4, help="of pictures from files, which are photograph-sized")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    clip = load_clip(options.model, options.pretrained).eval()
    model = InferenceModel(clip, options.model)
    with tempfile.TemporaryDirectory(prefix="pcclip-benchmark-") as name:
        kept, files = draw(Path(name) / "kept", options.kept, options.side), options.batches * options.batch_size
        fresh = draw(Path(name) / "fresh", files, 320)
        store = EmbeddingStore(Path(name) / "cache", clip.image_fingerprint, clip.embed_dim)
        pictures = [picture for picture in find_pictures([kept]) if isinstance(picture, ImageFile)]
        store.add(pictures, torch.randn(len(pictures), clip.embed_dim))
        first = next(fresh.iterdir())
        works: dict[str, Callable[[], object]] = {
            "tower alone": lambda: bare_loop(clip, first, options.batches, options.batch_size),
            "from files": lambda: embed_pictures(clip, find_pictures([fresh]), batch_size=options.batch_size),
        }
        taken = alternate(works, options.repeats) | alternate(
            {"kept": lambda: rank(model, kept, store)}, options.repeats
        )
    command = [sys.executable, "-m", "pcclip.cli", "--help"]
    taken |= alternate(
        {"help": lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)}, options.repeats
    )
    count = {"tower alone": files, "from files": files, "kept": options.kept, "help": None}
    report(
        "rank",
        [
            {
                "step": step,
                "pictures": count[step],
                "seconds": median(turn.clock for turn in turns),
                "slowest": max(turn.clock for turn in turns),
                "over the tower alone": _above(taken["tower alone"], turns) if step == "from files" else None,
            }
            for step, turns in taken.items()
        ],
    )


def _above(tower: Sequence[Taken], own: Sequence[Taken]) -> str:
    return f"{median(turn.clock / bare.clock for turn, bare in zip(own, tower, strict=True)) - 1:+.1%}"


if __name__ == "__main__":
    main()
