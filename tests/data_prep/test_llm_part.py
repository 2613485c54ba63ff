"""Several machines share the questions; their outputs together are the whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.steps import class_texts, describe, rewrite
from tests.data_prep.conftest import Rows
from tests.helpers.fault_server import running_server
from tests.helpers.pair_files import model_options, write_pairs

Read = Callable[[Path], Rows]
PARTS = ("1/3", "2/3", "3/3")


def by_id(rows: Rows, key: str) -> dict[str, object]:
    assert len({row[key] for row in rows}) == len(rows)
    return {row[key]: row for row in rows}


@pytest.mark.parametrize("backend", ["scene", "compose"])
def test_parts_without_a_model(world: Path, tmp_path: Path, read: Read, backend: Any) -> None:
    files = {"pairs": str(world / "pairs.jsonl"), "captions": str(world / "shapes/train/captions.jsonl")}
    whole = tmp_path / "whole.jsonl"
    describe.Describe(**files, output=str(whole), backend=backend).run()
    rows: Rows = []
    groups: list[set[str]] = []
    for part in PARTS:
        output = tmp_path / f"{part[0]}.jsonl"
        describe.Describe(**files, output=str(output), backend=backend, part=part).run()
        rows += read(output)
        groups.append({row["group"] for row in read(output)})
    assert by_id(rows, "pair_id") == by_id(read(whole), "pair_id")
    assert sum(map(len, groups)) == len(set().union(*groups)) > 1  # no group in two parts


@pytest.mark.parametrize("backend", ["openai", "batch"])
def test_parts_of_differences_joined_by_cat_are_the_whole(tmp_path: Path, read: Read, backend: str) -> None:
    write_pairs(tmp_path, 30)
    pairs = [{**row, "group": f"g{i // 3}"} for i, row in enumerate(read(tmp_path / "pairs.jsonl"))]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    with running_server() as server:
        joined = b""
        for part in PARTS:
            options = model_options(tmp_path, server, backend=backend, batch_poll=0.01, part=part)
            options.output = str(tmp_path / f"{part[0]}.jsonl")
            options.run()
            joined += Path(options.output).read_bytes()
        (tmp_path / "differences.jsonl").write_bytes(joined)
        model_options(tmp_path, server).run()  # finds every answer there
        assert set(server.asked.values()) == {1}
    assert set(by_id(read(tmp_path / "differences.jsonl"), "pair_id")) == {f"p{i}" for i in range(30)}
    assert (tmp_path / "differences.jsonl.manifest.json").exists()


def test_parts_of_rewritten_captions_and_class_texts(tmp_path: Path, read: Read) -> None:
    write_pairs(tmp_path, 20)
    (tmp_path / "names.txt").write_text("".join(f"class {i}\n" for i in range(7)))
    with running_server() as server:
        model = {"base_url": server.url, "model": "m"}
        rows: dict[str, Rows] = {"rewrite": [], "classes": [], "pairs": []}
        for part in PARTS:
            output = str(tmp_path / f"rewrite-{part[0]}.jsonl")
            rewrite.Rewrite(captions=str(tmp_path / "captions.jsonl"), output=output, part=part, **model).run()
            rows["rewrite"] += read(Path(output))
            for kind in ("classes", "pairs"):
                output = str(tmp_path / f"{kind}-{part[0]}.jsonl")
                source = {kind: str(tmp_path / "names.txt")}
                class_texts.ClassTexts(output=output, part=part, **source, **model).run()
                rows[kind] += read(Path(output))
        assert set(server.asked.values()) == {1}
    assert len(by_id(rows["rewrite"], "id")) == 21
    assert len(by_id(rows["classes"], "name")) == 7
    assert len(by_id(rows["pairs"], "pair_id")) == 21


@pytest.mark.parametrize("backend", ["openai", "scene"])
def test_a_bad_part_is_refused(world: Path, tmp_path: Path, backend: Any) -> None:
    files = {"pairs": str(world / "pairs.jsonl"), "captions": str(world / "shapes/train/captions.jsonl")}
    model = {"model": "m", "base_url": "http://127.0.0.1:9/v1"}
    with pytest.raises(ValueError, match=r"describe\.part"):
        describe.Describe(**files, output=str(tmp_path / "d.jsonl"), backend=backend, part="5/4", **model).run()


def test_the_prompt_given_is_used_for_pairs_of_classes(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    prompt = tmp_path / "mine.yaml"
    prompt.write_text("version: 1\nsystem: Compare.\nuser: Mine {first} {second}\nanswer: {text: a, reverse_text: b}\n")
    with running_server() as server:
        options = class_texts.ClassTexts(output=str(tmp_path / "o.jsonl"), pairs=str(tmp_path / "names.txt"), model="m")
        options.base_url, options.prompt = server.url, str(prompt)
        options.run()
        assert list(server.asked) == ["Mine cat dog"]
