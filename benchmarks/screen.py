"""Rows per second of `screen`, by processor time, and its memory: `python -m benchmarks.screen`.

The texts are made up: compositions of captions of 14,000 words' worth of combinations, so that nearly all texts differ. Rows
come group by group, 60 pairs among 16 images, as `pairs` writes them. Processor time counts the step and its processes.
"""

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

from joblib.externals.loky import get_reusable_executor

from data_prep.files import Row
from data_prep.steps import screen
from data_prep.steps.describe import compose

WHO = """a man;two boys;a young woman;three children;an old farmer;a brown dog;a tabby cat;a group of tourists;a cyclist;a
street musician;a baby elephant;several sheep;a chef;a soccer player;a firefighter;a horse""".replace("\n", " ").split(
    ";"
)
DOES = """rides through;waits at;sleeps near;jumps over;walks along;stands in front of;sits beside;plays in;looks at;runs
across;takes a picture of;carries a box to""".replace("\n", " ").split(";")
WHERE = """a wooden bridge;a crowded market;the sandy beach;a snowy field;a red brick wall;an empty stadium;a narrow street;a
garden with tulips;a railway station;the kitchen table;a mountain lake;a parked blue truck""".replace("\n", " ").split(
    ";"
)
HOW = """;in the rain;at night;on a sunny day;with an umbrella;in black and white;next to a traffic light;under a cloudy sky;
wearing a green hat;with a yellow ball""".replace("\n", "").split(";")
GROUP, PAIRS = 16, 60


def write_rows(folder: Path, rows: int) -> tuple[Path, Path]:
    """Write `captions.jsonl` and `differences.jsonl`."""
    rng = random.Random(0)
    captions, differences = folder / "captions.jsonl", folder / "differences.jsonl"
    with captions.open("w") as caption_stream, differences.open("w") as difference_stream:
        for group in range(-(-rows // PAIRS)):
            images: list[Row] = []
            for place in range(GROUP):
                texts = [
                    " ".join(map(rng.choice, (WHO, DOES, WHERE, HOW))).strip().capitalize() + "." for _ in range(5)
                ]
                name = f"{group:06d}-{place:02d}"
                images.append({"id": name, "file": f"images/{name}.jpg", "captions": texts})
                caption_stream.write(json.dumps(images[-1]) + "\n")
            for pair in range(min(PAIRS, rows - group * PAIRS)):
                first, second = rng.sample(images, 2)
                pair_id = f"r0g{group:06d}-{pair:02d}"
                text, reverse = compose(0, pair_id, first, second)
                named = {"pair_id": pair_id, "group": f"r0g{group:06d}", "first": first["id"], "second": second["id"]}
                difference_stream.write(json.dumps({**named, "text": text, "reverse_text": reverse}) + "\n")
    return captions, differences


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        captions, differences = write_rows(Path(name), arguments.rows)
        output = Path(name) / "screened.jsonl"
        started, used = time.perf_counter(), _processor_time()
        screen.Screen(
            differences=str(differences), captions=str(captions), output=str(output), workers=arguments.workers
        ).run()
        get_reusable_executor().shutdown()  # processes count when they have ended
        seconds, processor = time.perf_counter() - started, _processor_time() - used
    own, largest = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(
        f"{arguments.rows / processor:,.0f} rows a processor second, {arguments.rows / seconds:,.0f} rows a second; "
        f"{own:.0f} MiB, and {largest:.0f} MiB in the largest of {arguments.workers} worker processes"
    )


def _processor_time() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
