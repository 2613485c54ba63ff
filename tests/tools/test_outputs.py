"""What the commands write is not taken for pictures, replaces nothing unasked, and is there whole or not at all."""

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
from pcclip.reports.contact_sheet import TILE
from pcclip.tools.gallery import Gallery
from pcclip.tools.library import folders_below
from pcclip.tools.picture_sources import find_pictures

RANK = '--more "the first is brighter" --less "the first is darker"'
CLASSIFY = "--attribute size --threshold 0"


@pytest.fixture
def here(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of pictures, as the current one."""
    monkeypatch.chdir(photos)
    return photos


@pytest.fixture
def pcclip(saved: Path, capsys: Any) -> Any:
    """Runs a command with the saved model; returns its exit code and what it says on stderr."""

    def run(command: str, *more: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main([*shlex.split(command), "--model", str(saved), *more])
        return code, capsys.readouterr().err

    return run


def paths(file: Path) -> list[str]:
    with file.open(newline="") as stream:
        return sorted(os.path.normpath(row["path"]) for row in csv.DictReader(stream))


def test_output_does_not_become_input(pcclip: Any, here: Path) -> None:
    pictures = sorted(str(path.relative_to(here)) for path in here.rglob("*.png"))
    commands = (
        f"rank . {RANK}",
        f"classify . {CLASSIFY} --split sorted",
        "prompt . --classes a,b",
        "search . --image 00.png --text brighter --count 20 --lambdas [1]",
    )
    for again in ((), ("--overwrite", "true")):
        assert [pcclip(command, *again)[0] for command in commands] == [0] * 4
    for table in ("ranked.csv", "classified.csv", "classes.csv"):
        assert paths(here / table) == pictures
        assert (here / table).with_suffix(".png").is_file()
    assert len(paths(here / "found.csv")) in (len(pictures), len(pictures) - 1)
    copies = sorted(str(path) for path in (here / "sorted").rglob("*.png"))
    assert len(copies) == len(pictures)
    assert len(find_pictures([f"{here}/**/*.png"])) == len(pictures)
    assert len(find_pictures([f"{here}/*.png"])) == len(pictures) - 1
    # What is named is taken.
    for named in ([here / "sorted"], [f"{here}/sorted/**/*.png"], copies):
        assert len(find_pictures(named)) == len(pictures)
    assert len(find_pictures([here / "ranked.png"])) == 1
    # So it is where the shell expands the pattern.
    for expanded in ([*here.glob("*.png")], [*here.glob("*")]):
        names = sorted(str(path.relative_to(here)) for path in expanded)
        assert "ranked.png" in names
        _, said = pcclip(f"rank {RANK} --overwrite true", "./00.png", *names)
        assert len(paths(here / "ranked.csv")) == len(pictures) - 1 + ("sub" in names)
        assert "4 written by pcclip" in said
    assert len(find_pictures(["00.png", *copies])) == 1
    with pytest.raises(ValueError, match=r"ranked\.png"):
        find_pictures(["ranked.png", "classified.png"])


@pytest.mark.parametrize("lies_there", ["ranked.csv", "ranked.png", "ranked.unreadable.csv"])
def test_nothing_is_replaced_unasked(lies_there: str, pcclip: Any, here: Path, tmp_path: Path) -> None:
    save_png(Image.new("RGB", (9, 9)), tmp_path / lies_there)
    before = (tmp_path / lies_there).read_bytes()
    command = f"rank {here} {RANK} --output {tmp_path / 'ranked.csv'}"
    code, said = pcclip(command)
    assert code == 2
    assert lies_there in said
    assert "--overwrite" in said
    assert (tmp_path / lies_there).read_bytes() == before
    assert pcclip(f"{command} --overwrite true")[0] == 0
    assert len(paths(tmp_path / "ranked.csv")) == 12


def test_what_no_command_wrote_is_never_replaced(pcclip: Any, here: Path) -> None:
    before = (here / "00.png").read_bytes()
    code, said = pcclip(f"rank . {RANK} --output {here / '00.csv'} --overwrite true")
    assert (code, "00.png" in said, "--overwrite" in said) == (2, True, False)
    assert (here / "00.png").read_bytes() == before
    (here / "run" / "finetuned").mkdir(parents=True)
    (here / "run" / "results.json").write_text("[]")
    for folder in (here / "sub", here / "run"):
        for command in (f"classify . {CLASSIFY} --split {folder}", f"export --format open_clip --output {folder}"):
            code, said = pcclip(f"{command} --overwrite true")
            assert code == 2
            assert str(folder) in said
    assert (here / "sub" / "11.png").is_file()
    assert not (here / "classified.csv").exists()
    export = "export --format open_clip --output exported"
    assert pcclip(export)[0] == 0
    assert pcclip(export)[0] == 2
    assert pcclip(f"{export} --overwrite true")[0] == 0


@pytest.mark.parametrize(
    "command", [f"rank . {RANK}", f"classify . {CLASSIFY} --split sorted", "prompt . --classes a,b"]
)
@pytest.mark.parametrize("full", ["csv", "png"])
def test_a_full_disk_leaves_nothing(
    command: str, full: str, pcclip: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(here.rglob("*"))

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(
        *((Image.Image, "save") if full == "png" else ("pcclip.tools.picture_command.write_rows",)), fail
    )
    code, said = pcclip(command)
    assert code == 2
    assert sorted(here.rglob("*")) == before
    (error,) = [line for line in said.splitlines() if "error" in line]
    assert f".{full}" in error


def test_what_is_skipped_is_counted_and_unreadable_pictures_have_a_reason(pcclip: Any, here: Path) -> None:
    for name in ("notes.txt", "more.txt", "clip.mov", "README", ".hidden", "sub/sidecar.xmp"):
        (here / name).touch()
    (here / "torn.jpg").write_bytes(b"no picture")
    Image.open(here / "00.png").save(here / "00.gif")
    Image.open(here / "01.png").save(here / "01.TIFF")
    (here / "loop").symlink_to(here)
    code, said = pcclip(f"rank . {RANK}")
    assert code == 0
    for skipped in ("skipped 2 .txt, 1 ", "1 .mov", "1 .xmp", "1 without extension"):
        assert skipped in said
    assert "unreadable: ./torn.jpg: not a JPEG" in said
    assert len(paths(here / "ranked.csv")) == 14
    assert paths(here / "ranked.unreadable.csv") == ["torn.jpg"]
    # The list is one of paths: what was repaired can be ranked alone.
    Image.new("RGB", (9, 9)).save(here / "torn.jpg")
    assert [picture.key for picture in find_pictures([here / "ranked.unreadable.csv"])] == ["./torn.jpg"]
    assert pcclip(f"rank . {RANK} --overwrite true")[0] == 0
    assert not (here / "ranked.unreadable.csv").exists()


def test_runs_are_not_offered_as_pictures(here: Path) -> None:
    for run in ("results.json", "config.yaml", "last.ckpt", "events.out.tfevents.1", "open_clip_config.json"):
        (here / "runs" / run).mkdir(parents=True)
        (here / "runs" / run / run).touch()
        Image.new("RGB", (9, 9)).save(here / "runs" / run / "chart.png")
    assert folders_below(str(here)) == [str(here), str(here / "sub")]


@pytest.mark.parametrize("command", [f"rank large {RANK}", "search large --image large/0.jpg --text brighter"])
def test_a_sheet_holds_no_picture_at_its_full_size(
    command: str, pcclip: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "large").mkdir()
    for number in range(3):
        Image.new("RGB", (1600, 1200), (80 * number, 90, 90)).save(here / "large" / f"{number}.jpg")
    drawn: list[Any] = []
    pick = Gallery.pick
    monkeypatch.setattr(Gallery, "pick", lambda *place: drawn.append(pick(*place)) or drawn[-1])
    assert pcclip(command)[0] == 0
    assert len(drawn) >= 3
    assert max(max(picture.size) for picture in drawn) == TILE
