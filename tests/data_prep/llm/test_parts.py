"""Several machines share the questions; their outputs together are the whole."""

import json
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from data_prep.steps.class_texts import ClassTexts
from data_prep.steps.describe import Describe
from data_prep.steps.rewrite import Rewrite
from tests.data_prep.conftest import Read, Rows
from tests.data_prep.llm.conftest import Describer, ids

PARTS = ("1/3", "2/3", "3/3")


@pytest.mark.parametrize("backend", ["scene", "compose"])
def test_parts_without_a_model(world: Path, tmp_path: Path, read: Read, backend: Any) -> None:
    files = {"pairs": str(world / "pairs.jsonl"), "captions": str(world / "shapes/train/captions.jsonl")}

    def described(part: str | None) -> Rows:
        output = tmp_path / f"{part}.jsonl".replace("/", "-")
        Describe(**files, output=str(output), backend=backend, part=part).run()
        return read(output)

    parts = [described(part) for part in PARTS]
    joined = [row for rows in parts for row in rows]
    assert sorted(joined, key=itemgetter("pair_id")) == sorted(described(None), key=itemgetter("pair_id"))
    groups = [{row["group"] for row in rows} for rows in parts]
    assert sum(map(len, groups)) == len(set().union(*groups)) > 1  # no group in two parts
    with pytest.raises(ValueError, match=r"describe\.part"):
        described("5/4")


@pytest.mark.parametrize("backend", ["openai", "batch"])
def test_parts_of_differences_joined_by_cat_are_the_whole(describer: Describer, read: Read, backend: str) -> None:
    describer.write(30)
    file = describer.folder / "pairs.jsonl"
    pairs = [{**row, "group": f"g{i // 3}"} for i, row in enumerate(read(file))]
    file.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    outputs = [describer.folder / f"{part[0]}.jsonl" for part in PARTS]
    for part, output in zip(PARTS, outputs, strict=True):
        describer.run(backend=backend, batch_poll=0.01, part=part, output=str(output))
    describer.output.write_bytes(b"".join(output.read_bytes() for output in outputs))
    describer.run()  # finds every answer there
    assert set(describer.server.asked.values()) == {1}
    assert describer.texts() == ids(*range(30))
    assert describer.manifest() is not None


@pytest.mark.parametrize(("kind", "rows"), [("captions", 21), ("classes", 7), ("pairs", 21)])
def test_parts_of_rewritten_captions_and_class_texts(describer: Describer, read: Read, kind: str, rows: int) -> None:
    describer.write(20)
    (describer.folder / "names.txt").write_text("".join(f"class {i}\n" for i in range(7)))
    step: Any = Rewrite if kind == "captions" else ClassTexts
    source = describer.folder / ("captions.jsonl" if kind == "captions" else "names.txt")
    found: list[str] = []
    for part in PARTS:
        output = describer.folder / f"out-{part[0]}.jsonl"
        step(**{kind: str(source)}, output=str(output), part=part, base_url=describer.server.url, model="m").run()
        found += [row.get("pair_id") or row.get("name") or row["id"] for row in read(output)]
    assert len(found) == len(set(found)) == rows
    assert set(describer.server.asked.values()) == {1}
