"""How fast `pcclip rank` is: with kept embeddings, and without against a bare loop over the image tower.

`python benchmarks/rank.py --model runs/demo/finetuned --pictures 10000 --side 64`
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from pcclip import load
from pcclip.tools.gallery import embed_pictures
from pcclip.tools.model import wordings
from pcclip.tools.pictures import find_pictures
from pcclip.tools.ranking import score, write_ranking


def main() -> None:
    """Make pictures, and time it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="runs/demo/finetuned")
    parser.add_argument("--pretrained")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=64, help="of the pictures, in pixels")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    model = load(options.model, options.pretrained)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pictures"
        folder.mkdir()
        for number in range(options.pictures):
            Image.effect_noise((options.side, options.side), 50 + number % 100).convert("RGB").save(
                folder / f"{number}.jpg"
            )

        batch = torch.stack(
            [model.clip.image_transform(Image.open(folder / "0.jpg").convert("RGB"))] * options.batch_size
        )
        batches = -(-options.pictures // options.batch_size)
        with torch.no_grad():
            model.clip.encode_images(batch.to(model.clip.device)).cpu()  # warm
            started = time.perf_counter()
            for _ in range(batches):
                rows = model.clip.encode_images(batch.to(model.clip.device))
            rows.cpu()
        bare = (time.perf_counter() - started) * options.pictures / (batches * options.batch_size)
        pictures = find_pictures([folder])
        started = time.perf_counter()
        embed_pictures(model.clip, pictures, batch_size=options.batch_size, workers=options.workers)
        live = time.perf_counter() - started
        print(f"tower alone {bare:.2f} s; from files, no cache {live:.2f} s ({100 * (live / bare - 1):+.0f} %)")

        for state in ("cold", "kept"):
            with contextlib.redirect_stdout(io.StringIO()):
                started = time.perf_counter()
                pictures = find_pictures([folder])
                gallery = model.embed_pictures(pictures, cache=Path(scratch) / "cache", batch_size=options.batch_size)
                axis = model.axis(wordings("the first is larger", "the first is smaller"))
                write_ranking(Path(scratch) / "ranked.csv", gallery, score(model, gallery, axis))
                taken = time.perf_counter() - started
            print(f"ranking {len(pictures)} pictures, embeddings {state}: {taken:.2f} s")


if __name__ == "__main__":
    main()
