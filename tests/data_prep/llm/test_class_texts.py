"""A language model's texts on classes, in the form that the evaluations read."""

from pathlib import Path

import pytest

from data_prep.steps.class_texts import ClassTexts
from pcclip.datasets.annotations import read_comparatives
from pcclip.datasets.tables import read_table
from tests.helpers.fault_server import FaultServer


def test_descriptions_are_asked_once_and_read_by_zero_shot(
    tmp_path: Path, server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.txt").write_text("daffodil\ncorn poppy\n")
    output = tmp_path / "descriptions.jsonl"
    options = ClassTexts(
        output=str(output), classes=str(tmp_path / "names.txt"), kind="flowers", base_url=server.url, model="m"
    )
    options.run()
    assert set(read_table(output, "name").keys) == {"daffodil", "corn poppy"}
    assert all(read_table(output, "name").texts("description").values())
    assert "The classes are flowers. Describe: " in server.bodies[0]["messages"][1]["content"]
    options.run()
    assert "up to date" in capsys.readouterr().out
    assert sum(server.asked.values()) == 2


@pytest.mark.parametrize(
    ("name", "content", "classes"),
    [
        ("pairs.jsonl", '{"first": "cat", "second": "lynx"}\n', ("cat", "lynx")),
        ("classes.txt", "cat\ndog\n\nfox\n", ("cat", "dog", "fox")),
    ],
)
def test_comparisons_are_read_by_comparative_prompting(
    tmp_path: Path, server: FaultServer, name: str, content: str, classes: tuple[str, ...]
) -> None:
    pairs, output = tmp_path / name, tmp_path / "comparatives.jsonl"
    pairs.write_text(content)
    ClassTexts(output=str(output), pairs=str(pairs), base_url=server.url, model="m").run()
    found = {(row.first, row.second): row.text for row in read_comparatives(output)}
    assert set(found) == {(a, b) for a in classes for b in classes if a != b}
    assert len(set(found.values())) == len(found)


def test_the_prompt_given_is_used(tmp_path: Path, server: FaultServer) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    prompt = tmp_path / "mine.yaml"
    prompt.write_text("version: 1\nsystem: Compare.\nuser: Mine {first} {second}\nanswer: {text: a, reverse_text: b}\n")
    files = {"pairs": str(tmp_path / "names.txt"), "output": str(tmp_path / "o.jsonl"), "prompt": str(prompt)}
    ClassTexts(**files, model="m", base_url=server.url).run()
    assert list(server.asked) == ["Mine cat dog"]


def test_bad_options(tmp_path: Path) -> None:
    (tmp_path / "twice.txt").write_text("a\na\n")
    (tmp_path / "latin.txt").write_bytes("käse\n".encode("latin-1"))
    twice, latin = (str(tmp_path / name) for name in ("twice.txt", "latin.txt"))
    asked = {"output": twice[:-4], "model": "m", "base_url": "http://127.0.0.1:9"}
    for options, message in (
        (ClassTexts(output="x"), "`classes` or `pairs`"),
        (ClassTexts(output="x", classes=twice, pairs=twice), "`classes` or `pairs`"),
        (ClassTexts(output="x", classes=twice), "class_texts.model is not set"),
        (ClassTexts(**asked, classes=twice), r"twice\.txt: .*'a'"),
        (ClassTexts(**asked, classes=latin), r"latin\.txt"),
        (ClassTexts(output="x", classes="nowhere", model="m"), r"nowhere: .* not found"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            options.run()
