"""A language model says how classes differ, once for each pair."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_prep import comparatives
from pcclip.data.comparatives import read_comparatives
from tests.helpers.fault_server import running_server


def test_each_pair_is_asked_once_and_read_as_comparatives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes, output = tmp_path / "classes.txt", tmp_path / "comparatives.jsonl"
    classes.write_text("cat\ndog\n\nfox\n")
    with running_server() as server:
        options = comparatives.Options(str(classes), str(output), base_url=server.url, model="m")
        comparatives.run(options)
        comparatives.run(options)
        assert "up to date" in capsys.readouterr().out
        assert sum(server.asked.values()) == 3
        assert "cat" in server.bodies[0]["messages"][1]["content"]
    found = {(row.first, row.second) for row in read_comparatives(output)}
    assert found == {(a, b) for a in ("cat", "dog", "fox") for b in ("cat", "dog", "fox") if a != b}


def test_pairs_may_be_chosen(tmp_path: Path) -> None:
    classes, pairs = tmp_path / "classes.txt", tmp_path / "pairs.jsonl"
    classes.write_text("cat\ndog\nfox\n")
    rows = [{"first": "dog", "second": "cat"}, {"first": "cat", "second": "dog"}]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with running_server() as server:
        options = comparatives.Options(
            str(classes), str(tmp_path / "c.jsonl"), str(pairs), base_url=server.url, model="m"
        )
        comparatives.run(options)
        assert sum(server.asked.values()) == 1
    pairs.write_text('{"first": "dog", "second": "owl"}\n')
    with pytest.raises(ValueError, match=r"pairs.jsonl, line 1: \('dog', 'owl'\) are not two of the 3 classes"):
        comparatives.run(options)
    classes.write_text("cat\ncat\n")
    with pytest.raises(ValueError, match="at least two classes, each once"):
        comparatives.run(options)
