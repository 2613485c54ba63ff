"""Every kind of damage to a shard costs what it hits, is counted under its reason, and never runs anything."""

import gzip
import io
import pickle
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pcclip.callbacks import DataMonitor
from pcclip.data.collate import Draw
from pcclip.data.damage import DamageTally
from pcclip.data.folders import ShardFolder
from pcclip.data.loader import EpochLoader
from pcclip.data.stream import PairBatches
from pcclip.model import DifferenceCLIP
from tests.data.test_datamodule import Recorder, make_data, make_module, make_trainer
from tests.helpers.shards import group_record, image_sample, write_dataset

GROUPS, SIZE = 10, 3
INFO: dict[str, Any] = {
    "kind": "images",
    "group_size": SIZE,
    "images": GROUPS * SIZE,
    "pairs": GROUPS * SIZE * (SIZE - 1),
}


class Explosive:
    """Leaves a mark when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('a member was unpickled')",)


def rewrite(file: Path, change: Callable[[tarfile.TarFile, tarfile.TarInfo, bytes], None]) -> None:
    """Write a tar again with each of its members passed through `change`."""
    source = io.BytesIO(file.read_bytes())
    with tarfile.open(fileobj=source) as old, tarfile.open(file, "w") as new:
        for member in old:
            content = old.extractfile(member)
            change(new, member, content.read() if content else b"")


def put(tar: tarfile.TarFile, member: tarfile.TarInfo, payload: bytes) -> None:
    member.size = len(payload)
    tar.addfile(member, io.BytesIO(payload))


def replaced(name: str, payload: bytes | None) -> Callable[[Path], None]:
    """Replace a member's content, or leave the member out."""

    def change(tar: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
        if member.name != name:
            put(tar, member, content)
        elif payload is not None:
            put(tar, member, payload)

    return lambda file: rewrite(file, change)


def renamed(old: str, new: str) -> Callable[[Path], None]:
    """Give a group another one's key."""

    def change(tar: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
        member.name = member.name.replace(old, new)
        put(tar, member, content)

    return lambda file: rewrite(file, change)


def linked(kind: bytes) -> Callable[[Path], None]:
    """Put a link, device or folder in place of an image."""

    def change(tar: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
        if member.name == "00000001.01.png":
            member.type, member.linkname, member.size = kind, "/etc/passwd", 0
            tar.addfile(member)
        else:
            put(tar, member, content)

    return lambda file: rewrite(file, change)


def edited(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(change(file.read_bytes())) and None


def overwritten(mark: bytes, block: bytes) -> Callable[[Path], None]:
    """Overwrite bytes from a mark on."""

    def change(content: bytes) -> bytes:
        start = content.index(mark)
        return content[:start] + block + content[start + len(block) :]

    return edited(change)


def bomb() -> bytes:
    stream = io.BytesIO()
    Image.new("1", (9000, 9000)).save(stream, "PNG")
    return stream.getvalue()


KINDS: dict[str, tuple[Callable[[Path], None], dict[str, int]]] = {
    "truncated": (edited(lambda c: c[: c.index(b"00000003.01.png") + 700]), {"truncated": 1, "missing_record": 1}),
    "truncated_between_groups": (edited(lambda c: c[: c.index(b"00000003.00.png")]), {"truncated": 2}),
    "empty": (edited(lambda c: b""), {"empty_file": 5}),
    "no_tar": (edited(lambda c: b"<html>not found</html>" * 100), {"not_a_tar": 5}),
    "compressed": (edited(gzip.compress), {"not_a_tar": 5}),
    "flipped_header": (overwritten(b"00000002.01.png", b"\xff"), {"missing_image": 1}),
    "flipped_record": (
        overwritten(b'{"first": 0, "second": 1, "text": "the first is g1', b"\xff"),
        {"broken_record": 1},
    ),
    "flipped_index": (
        overwritten(b'{"first": 0, "second": 1, "text": "the first is g1', b'{"first": 9'),
        {"wrong_record": 1},
    ),
    "flipped_image": (replaced("00000002.00.png", b"\x89PNG\r\n\x1a\n" + b"\x7f" * 80), {"broken_image": 1}),
    "no_record": (replaced("00000002.json", None), {"missing_record": 1}),
    "no_image": (replaced("00000002.00.png", None), {"missing_image": 1}),
    "duplicate_key": (renamed("00000004", "00000001"), {"duplicate_key": 1}),
    "adjacent_duplicate_key": (renamed("00000002", "00000001"), {"duplicate_key": 1}),
    "unreadable_image": (replaced("00000002.00.png", b"GIF89a"), {"broken_image": 1}),
    "oversized_image": (replaced("00000002.00.png", bomb()), {"oversized_image": 1}),
    "symbolic_link": (linked(tarfile.SYMTYPE), {"foreign_member": 1}),
    "hard_link": (linked(tarfile.LNKTYPE), {"foreign_member": 1}),
    "device": (linked(tarfile.CHRTYPE), {"foreign_member": 1}),
    "pickle_as_record": (replaced("00000002.json", pickle.dumps(Explosive())), {"broken_record": 1}),
    "pickle_as_image": (replaced("00000002.00.png", pickle.dumps(Explosive())), {"broken_image": 1}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards of five groups."""
    samples = [image_sample(number, group_record(number, SIZE)) for number in range(GROUPS)]
    samples[0]["pyd"] = pickle.dumps(Explosive())
    return write_dataset(tmp_path / "shards", [samples[:5], samples[5:]], INFO)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_survived_and_counted(folder: Path, tiny_clip: DifferenceCLIP, kind: str) -> None:
    damage, expected = KINDS[kind]
    damage(folder / "00000.tar")
    opened = ShardFolder.open(str(folder), folder)
    stream = PairBatches([opened], tiny_clip.image_transform, tiny_clip.tokenizer, Draw(1, 4, 0), max_pixels=5000)
    loader = EpochLoader(stream, lambda: (0, 0), DamageTally(0.5, GROUPS * SIZE), 0, persistent=False)
    batches = list(loader)
    assert len(batches) == GROUPS
    assert loader.tally.epoch == expected
    # whatever is given out is true: texts speak of the pictures beside them
    assert Counter(len(batch.first) for batch in batches) == {4: GROUPS}


def test_losses_are_shown_by_reason_and_at_the_end(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replaced("00000002.00.png", None)(folder / "00000.tar")
    replaced("00000007.json", None)(folder / "00001.tar")
    logger = TensorBoardLogger(tmp_path, name="log", default_hp_metric=False)
    trainer = make_trainer(tmp_path, 2, DataMonitor(), logger=logger, log_every_n_steps=1)
    trainer.fit(make_module(), make_data(folder, groups_per_batch=1, max_damaged=0.2, num_workers=2))
    events = EventAccumulator(logger.log_dir)
    events.Reload()

    def values(tag: str) -> list[float]:
        return [event.value for event in events.Scalars(tag)]

    assert values("data/damaged") == [2, 2]
    assert values("data/damaged/missing_image") == values("data/damaged/missing_record") == [1, 1]
    assert "data/damaged/truncated" not in events.Tags()["scalars"]
    assert len(values("data/wait_share")) == 20
    assert all(0 < value < 1 for value in values("data/wait_share"))
    assert "left out of training, over all epochs and processes" in caplog.text
    assert "missing_image (an image that is not there): 2" in caplog.text


def test_run_with_too_many_losses_stops(folder: Path, tmp_path: Path) -> None:
    (folder / "00000.tar").write_bytes(b"")
    seen = Recorder()
    with (
        pytest.warns(UserWarning, match=r"damaged shard: .*00000.tar: 0 bytes, but .*dataset.json says"),
        pytest.raises(ValueError, match=r"more than data.max_damaged=0.05 allows(.|\n)*empty_file \((.|\n)*00000.tar"),
    ):
        make_trainer(tmp_path, 1, seen).fit(make_module(), make_data(folder, groups_per_batch=1))
    assert len(seen.train) < GROUPS
