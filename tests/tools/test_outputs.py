"""What the commands write is not taken for pictures, replaces nothing unasked, and is there whole or not at all."""

from __future__ import annotations

import csv
import errno
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pcclip.cli import main
from pcclip.data.picture_files import save_png
from pcclip.reports import contact_sheet
from pcclip.tools.library import folders_below
from pcclip.tools.picture_sources import find_pictures

AXIS = '--more "the first is brighter" --less "the first is darker"'
CLASSIFY = "--attribute size --threshold 0"


@pytest.fixture
def here(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of pictures, as the current one."""
    monkeypatch.chdir(photos)
    return photos


def paths(file: Path) -> list[str]:
    with file.open(newline="") as stream:
        return sorted(row["path"] for row in csv.DictReader(stream))


def test_output_does_not_become_input(saved: Path, here: Path) -> None:
    pictures = sorted(str(path.relative_to(here)) for path in here.rglob("*.png"))
    commands = (
        f"rank . {AXIS}",
        f"classify . {CLASSIFY} --split sorted",
        "prompt . --classes a,b",
        "search . --image 00.png --text brighter --count 20 --lambdas [1]",
    )
    for again in ("", " --overwrite true"):
        for command in commands:
            assert main(shlex.split(f"{command} --model {saved}{again}")) == 0
    tables = ("ranked.csv", "classified.csv", "classes.csv")
    for table in tables:
        assert [os.path.normpath(path) for path in paths(here / table)] == pictures
        assert (here / table).with_suffix(".png").is_file()
    assert len(paths(here / "found.csv")) in (len(pictures), len(pictures) - 1)
    copies = [path for path in (here / "sorted").rglob("*") if path.suffix == ".png"]
    assert len(copies) == len(pictures)

    assert len(find_pictures([f"{here}/**/*.png"])) == len(pictures)
    assert len(find_pictures([f"{here}/*.png"])) == len(pictures) - 1
    # What is named is taken.
    assert len(find_pictures([here / "sorted"])) == len(pictures)
    assert len(find_pictures([f"{here}/sorted/**/*.png"])) == len(pictures)
    assert len(find_pictures([here / "ranked.png"])) == 1


@pytest.mark.parametrize("lies_there", ["ranked.csv", "ranked.png", "ranked.unreadable.csv"])
def test_nothing_is_replaced_unasked(lies_there: str, saved: Path, here: Path, tmp_path: Path, capsys: Any) -> None:
    save_png(Image.new("RGB", (9, 9)), tmp_path / lies_there)
    before = (tmp_path / lies_there).read_bytes()
    arguments = shlex.split(f"rank {here} {AXIS} --model {saved} --output {tmp_path / 'ranked.csv'}")
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert lies_there in said
    assert "--overwrite" in said
    assert (tmp_path / lies_there).read_bytes() == before
    assert main([*arguments, "--overwrite", "true"]) == 0
    assert len(paths(tmp_path / "ranked.csv")) == 12


def test_folders_that_no_command_wrote_are_never_replaced(saved: Path, here: Path, capsys: Any) -> None:
    (here / "run" / "finetuned").mkdir(parents=True)
    (here / "run" / "results.json").write_text("[]")
    for folder in (here / "sub", here / "run"):
        command = f"classify {here} {CLASSIFY} --model {saved} --split {folder} --overwrite true"
        assert main(shlex.split(command)) == 2
        assert main(shlex.split(f"export --model {saved} --format open_clip --output {folder} --overwrite true")) == 2
        assert str(folder) in capsys.readouterr().err
    assert (here / "sub" / "11.png").is_file()
    assert not (here / "classified.csv").exists()
    command = f"export --model {saved} --format open_clip --output {here / 'exported'}"
    assert main(shlex.split(command)) == 0
    (here / "exported" / "notes").touch()
    assert main(shlex.split(command)) == 2
    assert main(shlex.split(f"{command} --overwrite true")) == 0
    assert not (here / "exported" / "notes").exists()


@pytest.mark.parametrize(
    "command", [f"rank . {AXIS}", f"classify . {CLASSIFY} --split sorted", "prompt . --classes a,b"]
)
@pytest.mark.parametrize("full", ["csv", "png"])
def test_a_full_disk_leaves_nothing(
    command: str, full: str, saved: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    before = sorted(here.rglob("*"))

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if full == "png":
        monkeypatch.setattr(Image.Image, "save", fail)
    else:
        monkeypatch.setattr("pcclip.tools.output.write_rows", fail)
    assert main([*shlex.split(command), "--model", str(saved)]) == 2
    assert sorted(here.rglob("*")) == before
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert f".{full}" in error


def test_what_is_skipped_is_counted_and_unreadable_pictures_have_a_reason(saved: Path, here: Path, capsys: Any) -> None:
    for name in ("notes.txt", "more.txt", "clip.mov", "README", ".hidden", "sub/sidecar.xmp"):
        (here / name).touch()
    (here / "torn.jpg").write_bytes(b"no picture")
    Image.open(here / "00.png").save(here / "00.gif")
    Image.open(here / "01.png").save(here / "01.TIFF")
    (here / "loop").symlink_to(here)
    assert main(shlex.split(f"rank . {AXIS} --model {saved}")) == 0
    said = capsys.readouterr().err
    assert "skipped 2 .txt, 1 " in said
    for skipped in ("1 .mov", "1 .xmp", "1 without extension"):
        assert skipped in said
    assert "unreadable: ./torn.jpg: not a JPEG" in said
    assert len(paths(here / "ranked.csv")) == 14
    assert paths(here / "ranked.unreadable.csv") == ["./torn.jpg"]
    # The list is one of paths: what was repaired can be ranked alone.
    Image.new("RGB", (9, 9)).save(here / "torn.jpg")
    assert [picture.key for picture in find_pictures([here / "ranked.unreadable.csv"])] == ["./torn.jpg"]
    assert main(shlex.split(f"rank . {AXIS} --model {saved} --overwrite true")) == 0
    assert not (here / "ranked.unreadable.csv").exists()


def test_runs_are_not_offered_as_pictures(here: Path) -> None:
    for run in ("results.json", "config.yaml", "last.ckpt", "events.out.tfevents.1", "open_clip_config.json"):
        (here / "runs" / run).mkdir(parents=True)
        (here / "runs" / run / run).touch()
        Image.new("RGB", (9, 9)).save(here / "runs" / run / "chart.png")
    assert folders_below(str(here)) == [str(here), str(here / "sub")]


@pytest.mark.parametrize(
    "command", [f"rank large {AXIS}", f"classify large {CLASSIFY}", "search large --image large/0.jpg --text brighter"]
)
def test_a_sheet_holds_no_picture_at_its_full_size(
    command: str, saved: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "large").mkdir()
    for number in range(3):
        Image.new("RGB", (1600, 1200), (80 * number, 90, 90)).save(here / "large" / f"{number}.jpg")
    drawn: list[Any] = []
    monkeypatch.setattr(
        contact_sheet, "contact_sheet", lambda pictures, *_, **__: drawn.extend(pictures) or Image.new("RGB", (9, 9))
    )
    assert main(shlex.split(f"{command} --model {saved}")) == 0
    sizes = [picture.size for picture in drawn if picture is not None]
    assert len(sizes) >= 3
    assert max(map(max, sizes)) == contact_sheet.TILE


def test_output_does_not_become_input_where_the_shell_expands_the_pattern(saved: Path, here: Path, capsys: Any) -> None:
    pictures = [f"{number:02d}.png" for number in range(11)]
    assert main(shlex.split(f"rank . {AXIS} --model {saved}")) == 0
    assert main(shlex.split(f"classify . {CLASSIFY} --model {saved} --split sorted")) == 0
    for expanded in ([*here.glob("*.png")], [*here.glob("*")]):
        names = sorted(str(path.relative_to(here)) for path in expanded)
        assert "ranked.png" in names
        capsys.readouterr()
        assert main([*shlex.split(f"rank {AXIS} --model {saved} --overwrite true"), "./00.png", *names]) == 0
        assert {Path(path).name for path in paths(here / "ranked.csv")} - {"11.png"} == set(pictures)
        assert len(paths(here / "ranked.csv")) == len(pictures) + ("sub" in names)
        assert "2 written by pcclip" in capsys.readouterr().err
    assert len(find_pictures(["00.png", *map(str, (here / "sorted").rglob("*.png"))])) == 1
    # What is named is taken.
    copies = sorted(str(path) for path in (here / "sorted").rglob("*.png"))
    assert len(find_pictures(copies)) == len(copies)
    with pytest.raises(ValueError, match=r"ranked\.png"):
        find_pictures(["ranked.png", "classified.png"])


def test_a_users_picture_is_never_replaced(saved: Path, here: Path, tmp_path: Path, capsys: Any) -> None:
    photo = here / "00.png"
    before = photo.read_bytes()
    command = f"rank . {AXIS} --model {saved} --output {here / '00.csv'} --overwrite true"
    assert main(shlex.split(command)) == 2
    said = capsys.readouterr().err
    assert "00.png" in said
    assert "--overwrite" not in said
    assert photo.read_bytes() == before
    assert not (here / "00.csv").exists()
