"""Captions are rewritten one by one and put together by image."""

import json
from pathlib import Path

import pytest

from data_prep.steps import rewrite
from tests.data_prep.conftest import Read, Write
from tests.helpers.fault_server import FaultServer


def test_rewrite(
    tmp_path: Path, server: FaultServer, write: Write, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": f"i{i}", "file": f"images/{i}.jpg", "captions": [f"cat {i}.{k}" for k in range(i)]} for i in range(4)
    ]
    captions = write("captions.jsonl", [{**row, "width": 8} for row in rows])
    output = tmp_path / "sub/rewritten.jsonl"
    options = rewrite.Rewrite(captions=str(captions), output=str(output), base_url=server.url, model="m")
    options.run()
    found = read(output)
    assert [row["id"] for row in found] == ["i1", "i2", "i3"]  # i0 has no caption
    assert [[text.split()[-1] for text in row["captions"]] for row in found] == [
        ["1.0"],
        ["2.0", "2.1"],
        ["3.0", "3.1", "3.2"],
    ]
    assert all(text.startswith("The first image shows more") for row in found for text in row["captions"])
    assert (found[0]["width"], found[0]["file"]) == (8, str(tmp_path / "images/1.jpg"))
    manifest = json.loads((tmp_path / "sub/rewritten.jsonl.manifest.json").read_text())
    assert (manifest["options"]["backend"], manifest["counts"]["answered"]) == ("openai:m", 6)
    options.run()
    assert "up to date" in capsys.readouterr().out
    assert server.bodies[0]["messages"][1]["content"].startswith("cat ")
    assert sum(server.asked.values()) == 6


def test_failed_captions_are_left_out_and_the_first_ones_suffice(
    tmp_path: Path, server: FaultServer, write: Write, read: Read
) -> None:
    captions = write("c.jsonl", [{"id": i, "file": i, "captions": [f"one {i}", f"two {i}", "three"]} for i in "ab"])

    def cut_off(text: str) -> None:
        server.faults.share_length = float(text in ("one a", "two a", "one b"))

    server.on_question = cut_off
    options = rewrite.Rewrite(
        captions=str(captions),
        output=str(tmp_path / "r.jsonl"),
        base_url=server.url,
        model="m",
        captions_per_image=2,
        concurrency=1,
    )
    options.run()
    assert [(row["id"], len(row["captions"])) for row in read(tmp_path / "r.jsonl")] == [("b", 1)]
    assert len(read(tmp_path / "r.answers.failures.jsonl")) == 3


def test_bad_options(tmp_path: Path, write: Write) -> None:
    captions = str(write("c.jsonl", []))
    with pytest.raises(ValueError, match=r"`output`.*`captions`"):
        rewrite.Rewrite(captions=captions, output=captions, model="m").run()
