"""`pcclip rank`, `classify` and `compare`: what they read, write and say."""

import csv
import io
import re
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from pcclip.cli import main
from pcclip.command_line import ToolWarning
from pcclip.tools.attributes import read_attribute
from pcclip.tools.classify import calibrate
from pcclip.tools.inference import InferenceModel
from pcclip.tools.picture_sources import find_pictures

AXIS = ["--more", "the first is brighter", "--less", "the first is darker"]


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_ranking_is_written_with_its_sheet(
    saved: Path, model: InferenceModel, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "03b.jpg").write_bytes(b"no picture")
    output = tmp_path / "out" / "ranked.csv"
    arguments = ["rank", str(photos), *AXIS, "--model", str(saved), "--output", str(output)]
    assert main(arguments) == 0
    expected = model.rank(photos, more=AXIS[1], less=AXIS[3])
    assert [row["path"] for row in rows(output)] == [row.path for row in expected]
    assert [float(row["score"]) for row in rows(output)] == pytest.approx([row.score for row in expected], abs=1e-6)
    assert [row["rank"] for row in rows(output)] == [str(rank) for rank in range(1, 13)]
    with Image.open(output.with_suffix(".png")) as sheet:  # two rows: ten and two
        assert sheet.height > 2 * 112
        first = sheet.getpixel((6 + 56, 33 + 56))
        with Image.open(expected[0].path) as best:
            assert first == best.getpixel((0, 0))
    assert [row["path"] for row in rows(output.parent / "ranked.unreadable.csv")] == [str(photos / "03b.jpg")]
    assert "JPEG" in rows(output.parent / "ranked.unreadable.csv")[0]["reason"]
    said = capsys.readouterr()
    assert "unreadable: " in said.err
    assert "12 pictures ranked" in said.out
    # Reversed, and from the embeddings that were kept.
    arguments[2:6] = ["--more", AXIS[3], "--less", AXIS[1]]
    before = output.read_text()
    assert main(arguments) == 2
    assert output.read_text() == before
    assert main([*arguments, "--overwrite", "true"]) == 0
    assert [row["path"] for row in rows(output)] == [row.path for row in expected][::-1]


def test_examples_give_an_axis_alone_and_with_texts(
    saved: Path, model: InferenceModel, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = {"high": [photos / "00.png", photos / "01.png"], "low": [photos / "09.png"]}
    words = [word for end, files in ends.items() for word in (f"--{end}", *map(str, files))]
    for texts, options in (([], {}), ([*AXIS, "--blend", "0.3"], {"more": AXIS[1], "less": AXIS[3], "blend": 0.3})):
        output = tmp_path / f"ranked{len(texts)}.csv"
        assert main(["rank", str(photos), *words, *texts, "--model", str(saved), "--output", str(output)]) == 0
        expected = model.rank(photos, **ends, **options)
        assert [row["path"] for row in rows(output)] == [row.path for row in expected]
        assert [float(row["score"]) for row in rows(output)] == pytest.approx([row.score for row in expected], abs=1e-6)
        assert "12 pictures ranked" in capsys.readouterr().out


def test_a_comparison_is_reversed_with_its_pictures(
    saved: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> tuple[list[list[str]], list[list[str]]]:
        tables = []
        for pair in (["00.png", "09.png"], ["09.png", "00.png"]):
            assert main(["compare", *(str(photos / name) for name in pair), *arguments, "--model", str(saved)]) == 0
            tables.append([re.split("  +", line.strip()) for line in capsys.readouterr().out.splitlines()[1:-1]])
        return tables[0], tables[1]

    there, back = said("--attribute", "[brightness,size]")
    assert {text for _, text, _ in there} <= {
        "a brighter background",
        "a darker background",
        "larger shapes",
        "smaller shapes",
    }
    assert [[margin, reverse, text] for margin, text, reverse in there] == back
    there, back = said()  # the shipped vocabulary
    assert [[margin, reverse, text] for margin, text, reverse in there] == back
    assert len(there) == 8
    assert len(said("--count", "300")[0]) > 150


def test_classes_by_thresholds_are_copied_into_folders(saved: Path, photos: Path, tmp_path: Path) -> None:
    output, split = tmp_path / "classes.csv", tmp_path / "classes.csv.d"
    config = tmp_path / "options.yaml"
    config.write_text("attribute: [size, light]\nthreshold: {size: 0, light: 9}\nsplit: ${output}.d\n")
    arguments = ["classify", str(photos), "--config", str(config), "--model", str(saved)]
    assert main([*arguments, "--output", str(output)]) == 0
    for row in rows(output):
        shows = "larger shapes" if float(row["size"]) > 0 else "smaller shapes"
        assert row["class"] == f"{shows} + a dark scene at night"
        assert (split / row["class"] / Path(row["path"]).name).read_bytes() == Path(row["path"]).read_bytes()
    assert {row["class"].split(" + ")[0] for row in rows(output)} == {"larger shapes", "smaller shapes"}


def test_thresholds_are_learned_from_examples(
    saved: Path, model: InferenceModel, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wordings = read_attribute("size").wordings
    ranked = model.rank(photos, [each.text for each in wordings], [each.reverse for each in wordings])
    examples = tmp_path / "examples.csv"
    # Those whose rank is in the upper third have more: separable, so the threshold must find exactly these.
    examples.write_text("path,size\n" + "".join(f"{row.path},{int(row.rank <= 4)}\n" for row in ranked))
    output = tmp_path / "classes.csv"
    arguments = ["classify", str(photos), "--attribute", "size", "--examples", str(examples)]
    assert main([*arguments, "--model", str(saved), "--output", str(output)]) == 0
    assert "balanced accuracy 1.000 on 12 examples" in capsys.readouterr().out
    found = {row["path"] for row in rows(output) if row["class"] == "larger shapes"}
    assert found == {row.path for row in ranked[:4]}


def test_calibration_balances_the_classes() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    labels = torch.tensor([False, False, True, False, True, True])
    threshold, accuracy = calibrate(scores, labels)
    assert threshold in (1.5, 3.5)
    assert accuracy == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match="of one class"):
        calibrate(scores, torch.ones(6, dtype=torch.bool))


def test_pictures_are_found_in_folders_patterns_lists_and_shards(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = [picture.key for picture in find_pictures([photos])]
    assert len(folder) == 12
    assert [picture.key for picture in find_pictures([f"{photos}/**/*.png"])] == sorted(folder)
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(folder) + "\n")
    assert [picture.key for picture in find_pictures([listed, photos])] == folder  # each once
    table = tmp_path / "ranked.csv"
    table.write_text("path,score\n" + "".join(f"{key},0\n" for key in folder))
    assert [picture.key for picture in find_pictures([table])] == folder
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(folder)))
    assert [picture.key for picture in find_pictures(["-"])] == folder
    for number, half in enumerate((folder[:6], folder[6:])):
        with tarfile.open(tmp_path / f"shard-{number}.tar", "w") as shard:
            for key in half:
                shard.add(key, f"{Path(key).stem}.00.png")
                shard.add(listed, f"{Path(key).stem}.json")
    for source in (f"{tmp_path}/shard-{{0..1}}.tar", f"{tmp_path}/shard-*.tar"):
        with pytest.warns(ToolWarning, match=r"skipped 12 \.json"):
            members = find_pictures([source])
        assert [member.read() for member in members] == [Path(key).read_bytes() for key in folder]
        assert members[0].key == f"{tmp_path}/shard-0.tar/00.00.png"
    with pytest.raises(ValueError, match="no pictures in it"):
        find_pictures([photos, f"{tmp_path}/nothing*"])
