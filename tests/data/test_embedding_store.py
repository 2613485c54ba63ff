"""Embeddings kept on disk: what comes back, and what must not."""

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch

from pcclip.data.embedding_store import EmbeddingStore
from pcclip.data.labelled import ImageFile


def files(folder: Path, count: int) -> list[ImageFile]:
    made = []
    for number in range(count):
        path = folder / f"{number}.png"
        path.write_bytes(b"x" * (number + 1))
        made.append(ImageFile(str(path), path.name))
    return made


def test_rows_come_back_in_any_order_and_new_or_changed_files_do_not(tmp_path: Path) -> None:
    images = files(tmp_path, 1200)  # more than a query holds
    rows = torch.randn(1200, 3, generator=torch.Generator().manual_seed(0))
    EmbeddingStore(tmp_path / "kept", "abc", 3).add(images[:1100], rows[:1100])
    os.utime(images[3].path, ns=(0, 12345))
    Path(images[4].path).unlink()

    order = torch.randperm(1200, generator=torch.Generator().manual_seed(1)).tolist()
    found = torch.zeros(1200, 3)
    known = EmbeddingStore(tmp_path / "kept", "abc", 3).load([images[index] for index in order], found)
    for place, index in enumerate(order):
        assert known[place] == (index < 1100 and index not in (3, 4))
        assert torch.equal(found[place], rows[index] if known[place] else torch.zeros(3))
    known = EmbeddingStore(tmp_path / "kept", "another tower", 3).load(images, found)
    assert not known.any()


def test_rows_that_are_not_finite_are_neither_kept_nor_read(tmp_path: Path) -> None:
    images, rows = files(tmp_path, 3), torch.ones(3, 2)
    rows[1, 0] = torch.inf
    store = EmbeddingStore(tmp_path, "abc", 2)
    store.add(images, rows)
    assert store.load(images, torch.zeros(3, 2)).tolist() == [True, False, True]
    with sqlite3.connect(store.file) as database:
        wrong = np.array([np.nan, 1], "<f4").tobytes()
        database.execute("UPDATE embeddings SET embedding = ?", [wrong])
    assert not store.load(images, torch.zeros(3, 2)).any()


def test_members_of_one_shard_are_told_apart(tmp_path: Path) -> None:
    shard = tmp_path / "a.tar"
    shard.write_bytes(b"x" * 100)
    images = [ImageFile(str(shard), str(place), offset=place, size=10) for place in (0, 512)]
    store = EmbeddingStore(tmp_path, "abc", 2)
    store.add(images[:1], torch.ones(1, 2))
    known = store.load(images, torch.zeros(2, 2))
    assert known.tolist() == [True, False]


def test_pictures_reached_through_a_link_are_known(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    images = files(tmp_path / "pictures", 2)
    store = EmbeddingStore(tmp_path, "abc", 2)
    store.add(images, torch.ones(2, 2))
    known = store.load(
        [ImageFile(str(tmp_path / "link" / image.key), image.key) for image in images], torch.zeros(2, 2)
    )
    assert known.all()


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "abc.sqlite").write_bytes(b"not a database, but long enough to be looked at as one " * 20)
    with pytest.raises(OSError, match=r"abc.sqlite"):
        EmbeddingStore(tmp_path, "abc", 2)


def test_embeddings_of_another_decoder_are_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = files(tmp_path, 1)
    EmbeddingStore(tmp_path, "abc", 2).add(images, torch.ones(1, 2))
    monkeypatch.setattr("pcclip.data.embedding_store.DECODER", 99)
    assert not EmbeddingStore(tmp_path, "abc", 2).load(images, torch.zeros(1, 2)).any()
