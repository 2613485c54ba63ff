"""Pictures per second of the `shard` step, beside what Pillow alone can decode, shrink and encode in as many processes.

    python -m benchmarks.shard                             # 2,000 drawn JPEGs of 640x480, shrunk to 256
    python -m benchmarks.shard --images FOLDER --resize 336

Both are run in turn, so that other load on the machine falls on both; the table gives medians. Processor time does not
depend on what else the machine is doing, elapsed time does.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import report
from data_prep.steps import shard
from pcclip.data.pictures import REDUCING_GAP


def draw_jpeg(path: Path, seed: int, width: int, height: int) -> None:
    """Write a JPEG about as hard to decode as a photograph: soft shapes at several scales, and grain."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64):
        coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 3
    pixels += random.normal(0, 6, pixels.shape)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def draw_all(folder: Path, count: int, width: int, height: int, processes: int) -> list[Path]:
    """Write `count` JPEGs."""
    paths = [folder / f"{index:06d}.jpg" for index in range(count)]
    draw = partial(draw_jpeg, width=width, height=height)
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(draw, paths, range(count), chunksize=32))
    return paths


def pillow_alone(path: Path, resize: int, quality: int) -> int:
    """Decode, shrink and encode one picture, as plainly as Pillow can; return the number of bytes."""
    stream = io.BytesIO()
    with Image.open(path) as image:
        image.thumbnail((resize, resize), Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)
        image.convert("RGB").save(stream, "JPEG", quality=quality)
    return len(stream.getvalue())


def run_pillow(paths: list[Path], resize: int, quality: int, processes: int) -> None:
    """Put all pictures through `pillow_alone`."""
    work = partial(pillow_alone, resize=resize, quality=quality)
    if processes == 0:
        for path in paths:
            work(path)
        return
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(work, paths, chunksize=64))


def run_shard(options: shard.Shard) -> None:
    """Run the step again."""
    shutil.rmtree(options.output, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):
        options.run()


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Elapsed and processor time of a call, that of its worker processes included."""
    started, before = time.perf_counter(), os.times()
    work()
    return time.perf_counter() - started, sum(os.times()[:4]) - sum(before[:4])


def show(pictures: int, times: dict[str, list[tuple[float, float]]]) -> None:
    """Print the ratios and the table."""
    rows = []
    for label, taken in times.items():
        rates = [pictures / elapsed for elapsed, _ in taken]
        rows.append(
            {
                "step": label,
                "pictures/s": statistics.median(rates),
                "slowest": min(rates),
                "fastest": max(rates),
                "processor ms a picture": statistics.median(processor for _, processor in taken) / pictures * 1000,
            }
        )
    for place, kind in enumerate(("elapsed", "processor")):
        pairs = zip(times["Pillow alone"], times["shard step"], strict=True)
        ratios = [alone[place] / step[place] for alone, step in pairs]
        median = statistics.median(ratios)
        print(
            f"speed of the shard step, by {kind} time: {median:.0%} of Pillow's ({min(ratios):.0%} to {max(ratios):.0%})"
        )
    print()
    report("shard", rows)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of pictures to use instead of drawn ones")
    parser.add_argument("--count", type=int, default=2000, help="pictures to draw, or to take from the folder")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--resize", type=int, default=256)
    parser.add_argument("--quality", type=int, default=90)
    parser.add_argument("--workers", type=int, default=2, help="processes of either; 0 works in this one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--groups-per-shard", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pcclip-benchmark-") as name:
        folder = Path(name)
        if arguments.images:
            found = (path for path in arguments.images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
            paths = sorted(path.absolute() for path in found)[: arguments.count]
        else:
            paths = draw_all(folder, arguments.count, *arguments.size, max(arguments.workers, 1))
        captions = folder / "captions.jsonl"
        rows = (
            {"id": f"{place:06d}", "file": str(path), "captions": ["a picture"]} for place, path in enumerate(paths)
        )
        captions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        options = shard.Shard(
            captions=[str(captions)],
            output=str(folder / "shards"),
            unpaired=True,
            groups_per_shard=arguments.groups_per_shard,
            resize=arguments.resize,
            quality=arguments.quality,
            workers=arguments.workers,
        )
        works: dict[str, Callable[[], None]] = {
            "Pillow alone": lambda: run_pillow(paths, arguments.resize, arguments.quality, arguments.workers),
            "shard step": lambda: run_shard(options),
        }
        run_pillow(
            paths, arguments.resize, arguments.quality, arguments.workers
        )  # the files are in memory from here on
        times: dict[str, list[tuple[float, float]]] = {label: [] for label in works}
        for _ in range(arguments.repeats):
            for label, work in works.items():
                times[label].append(seconds(work))
    print(
        f"{len(paths)} pictures to {arguments.resize} pixels, {arguments.workers} processes, {arguments.repeats} runs\n"
    )
    show(len(paths), times)


if __name__ == "__main__":
    main()
