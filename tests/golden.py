"""What a restructuring must not change in the small demo: shards, batches, logged names and rows of results.

Values of metrics are left out: processors round differently, and training amplifies it.

`python -m tests.golden FOLDER` makes the small demo in an empty folder and writes `tests/golden.json`.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from pcclip.data.collate import Draw
from pcclip.data.folders import ShardFolder
from pcclip.data.stream import PairBatches
from pcclip.model import load_clip

FILE = Path(__file__).with_suffix(".json")


def observe() -> dict[str, Any]:
    """Everything that is compared, of the small demo in the working directory."""
    return {"shards": shards(), "batches": batches(), "logged": logged(), "rows": rows()}


def shards() -> dict[str, str]:
    """Sha256 of every shard of images."""
    files = sorted(Path("data/demo/shards").rglob("*.tar"))
    return {file.as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def batches() -> list[str]:
    """A digest of each of two epochs: pictures, pairs with reverses and exchanged roles, and captions."""
    model = load_clip("conf/model/tiny.json")
    draw = Draw(
        groups_per_batch=2,
        pairs_per_group=32,
        captions_per_group=16,
        both_directions=True,
        role_swap=0.3,
        role_twins=False,
        block=1024,
        seed=0,
    )
    folder = ShardFolder.open("data/demo/shards/train", Path("data/cache"))
    drawn = PairBatches([folder], model.image_transform, model.tokenizer, draw)
    found = []
    for epoch in range(2):
        digest = hashlib.sha256()
        for number in range(len(drawn)):
            batch = drawn[epoch, number]
            assert batch.images is not None
            for part in (batch.images, batch.first, batch.second, batch.tokens, batch.captioned, batch.caption_tokens):
                digest.update(part.numpy().tobytes())
        found.append(digest.hexdigest())
    return found


def logged() -> list[str]:
    """Names of the finetuning's scalars in TensorBoard."""
    (folder,) = Path("runs/demo/finetune").glob("version_*")
    events = EventAccumulator(str(folder), size_guidance={"scalars": 1})
    events.Reload()
    return sorted(events.Tags()["scalars"])


def rows() -> list[list[Any]]:
    """The columns of each row of the table of results, without values and intervals."""
    table = json.loads(Path("runs/demo/results.json").read_text(encoding="utf-8"))
    return [[row[key] for key in ("model", "task", "subset", "metric", "n", "factor", "alpha")] for row in table]


def main() -> None:
    """Write the file again, after a change that is meant."""
    from tests.test_small_demo import make_demo

    torch.set_num_threads(1)
    make_demo(Path(sys.argv[1]))
    os.chdir(sys.argv[1])
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in observe().items())
    FILE.write_text(f"{{\n{lines}\n}}\n".replace("], [", "],\n ["), encoding="utf-8")


if __name__ == "__main__":
    main()
