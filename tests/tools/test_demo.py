"""`pcclip demo`: what can be chosen, what a visitor can reach, and the page in a headless browser."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
import torch
from PIL import Image

from pcclip.cli import main
from pcclip.commands.command import tool_parser
from pcclip.model import load_clip, save_clip
from pcclip.tools.library import Library, folders_below, models_below
from pcclip.tools.model import InferenceModel
from pcclip.tools.open_model import load_model
from tests.helpers.models import TINY

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MORE, LESS = "the first is brighter", "the first is darker"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of grey pictures and another model, below a root."""
    folder = tmp_path / "root"
    (folder / "grey").mkdir(parents=True)
    for number in range(5):
        Image.new("L", (30, 30), 50 * number).save(folder / "grey" / f"{number}.png")
    torch.manual_seed(1)
    save_clip(load_clip(str(TINY)), folder / "other")
    return folder


@pytest.fixture
def address(saved: Path, photos: Path, root: Path, tmp_path: Path) -> Iterator[str]:
    """The command, serving the test's pictures with two models side by side, and a root to choose from."""
    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pcclip.cli", "demo", str(photos), str(root), "--model", str(saved)]
    command += ["--base", str(saved), "--below", "true", "--upload_limit", "1", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "GRADIO_TEMP_DIR": str(tmp_path / "gradio")}
        )
        try:
            deadline = time.monotonic() + 120
            while "http" not in (tmp_path / "log").read_text():
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.2)
            heard = psutil.Process(process.pid).net_connections(kind="tcp")
            assert {each.laddr.ip for each in heard if each.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


def test_only_what_is_named_or_below_a_root_can_be_reached(
    saved: Path, model: InferenceModel, photos: Path, root: Path
) -> None:
    (root / ".hidden").mkdir()
    Image.new("L", (9, 9)).save(root / ".hidden" / "0.png")
    (root / "link").symlink_to(photos)
    (root / "lost.ckpt").write_bytes(b"of no run")
    assert folders_below(str(root)) == [str(root / "grey")]
    assert models_below(f"{root}/./") == [str(root / "other")]
    asked = []

    def embed(which: InferenceModel, name: str) -> Any:
        asked.append(name)
        return which.embed(name)

    library = Library([str(photos)], [str(saved)], load_model, embed)
    assert len(library.shown(str(photos), str(saved)).gallery.pictures) == 12
    assert library.shown(str(photos), str(saved)).ranked("", "")[0][1] == "00.png"
    assert asked == [str(photos)]  # once
    for pictures, name in ((str(root / "grey"), str(saved)), (str(photos), str(root / "other"))):
        with pytest.raises(ValueError, match=r"not (one of|among) the (models|pictures) of this page"):
            library.shown(pictures, name)


def test_this_machine_only_unless_asked() -> None:
    assert tool_parser("demo").parse_args(["photos"]).host == "127.0.0.1"


def test_a_port_in_use_is_named_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["demo", "nowhere", "--model", "nowhere", "--port", str(port)]) == 2
    assert f"--port {port}: cannot listen" in capsys.readouterr().err


@pytest.mark.slow
def test_a_visitor_reaches_nothing_else(address: str, photos: Path, saved: Path, root: Path) -> None:
    secret = root / "secret.txt"
    secret.write_text("secret")
    assert status(f"{address}/gradio_api/file={secret}") == 403
    assert status(f"{address}/gradio_api/file=pyproject.toml") == 403
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    for size, expected in ((1000, 200), (2_000_000, 413)):
        upload = Request(f"{address}/gradio_api/upload", head + bytes(size) + b"\r\n--x--\r\n")
        upload.add_header("Content-Type", "multipart/form-data; boundary=x")
        assert status(upload) == expected
    for pictures in (str(photos), str(photos / "sub"), "/"):
        body = json.dumps({"data": [pictures, str(saved), "nothing", MORE, LESS]}).encode()
        asked = Request(f"{address}/gradio_api/call/rank", body, {"Content-Type": "application/json"})
        with urlopen(asked) as answer:
            event = json.load(answer)["event_id"]
        with urlopen(f"{address}/gradio_api/call/rank/{event}") as answer:
            assert (b"event: complete" in answer.read()) == (pictures == str(photos))


def status(what: str | Request) -> int:
    try:
        with urlopen(what, timeout=30) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


@pytest.mark.slow
def test_errors_are_for_the_visitor(address: str, photos: Path, saved: Path, tmp_path: Path) -> None:
    def upload(content: bytes, name: str) -> dict[str, Any]:
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        asked = Request(f"{address}/gradio_api/upload", head + content + b"\r\n--x--\r\n")
        asked.add_header("Content-Type", "multipart/form-data; boundary=x")
        with urlopen(asked) as answer:
            return {"path": json.load(answer)[0], "meta": {"_type": "gradio.FileData"}, "orig_name": name}

    def ask(function: str, *data: Any) -> str:
        body = json.dumps({"data": [str(photos), str(saved), "nothing", *data]}).encode()
        asked = Request(f"{address}/gradio_api/call/{function}", body, {"Content-Type": "application/json"})
        with urlopen(asked) as answer:
            event = json.load(answer)["event_id"]
        with urlopen(f"{address}/gradio_api/call/{function}/{event}") as answer:
            return str(answer.read().decode())

    picture = upload((photos / "03.png").read_bytes(), "a.png")
    assert "event: complete" in ask("seeking", picture, MORE, 1)
    for data, names in (
        ((upload(b"no picture", "notes.txt"), MORE, 1), "notes.txt: not a JPEG"),
        ((upload(b"no picture", "a.png"), MORE, 1), "not a JPEG"),
        ((picture, " ", 1), "how the wanted picture differs"),
        ((None, MORE, 1), "picture"),
    ):
        answer = ask("seeking", *data)
        assert "event: error" in answer
        assert names in answer, answer
    for texts in (("", LESS), (MORE, MORE)):
        answer = ask("rank", *texts)
        assert "event: error" in answer
        assert "field" in answer
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
@pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed")
def test_the_page(address: str, model: InferenceModel, photos: Path, root: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    other = load_model(str(root / "other"))
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)

        def type_axis(more: str, less: str) -> None:
            for box, text in (("more", more), ("less", less)):
                page.locator(f"#{box} textarea, #{box} input").first.fill(text)
            page.locator("#less textarea, #less input").first.press("Enter")

        def choose(box: str, name: Path | str) -> None:
            page.locator(f"#{box} input").click()
            page.get_by_role("option", name=str(name), exact=True).click()

        def wait_for(gallery: str, labels: list[str]) -> list[str]:
            """Wait until a gallery shows so labelled pictures; returns them."""
            found: list[str] = []
            for _ in range(150):
                texts = page.locator(f"#{gallery} .grid-container .caption-label").all_inner_texts()
                found = [text.strip() for text in texts]
                if found == labels:
                    break
                page.wait_for_timeout(200)
            assert found == labels
            return [image.get_attribute("src") for image in page.locator(f"#{gallery} .grid-container img").all()]

        def labels(by: InferenceModel, folder: Path, more: str, less: str) -> list[str]:
            return [f"{row.rank}: {row.score:+.3f}" for row in by.rank(folder, more=more, less=less)]

        plain = wait_for("ranked-0", [f"{number:02d}.png" for number in range(12)])  # before anything is typed
        type_axis(MORE, LESS)
        there = wait_for("ranked-0", labels(model, photos, MORE, LESS))
        type_axis(LESS, MORE)
        back = wait_for("ranked-0", labels(model, photos, LESS, MORE))
        assert len(plain) == len(there) == 12
        assert there != plain
        assert there != back
        assert wait_for("ranked-1", labels(model, photos, LESS, MORE)) == back
        choose("model", root / "other")
        wait_for("ranked-0", labels(other, photos, LESS, MORE))
        wait_for("ranked-1", labels(model, photos, LESS, MORE))
        choose("pictures", root / "grey")
        grey = wait_for("ranked-0", labels(other, root / "grey", LESS, MORE))
        assert not {*grey} & {*there}
        choose("beside", "nothing")
        page.locator("#ranked-1").wait_for(state="hidden")

        page.get_by_role("tab", name="Search").click()
        page.locator("#picture input[type=file]").set_input_files(root / "grey" / "3.png")
        page.locator("#preview img").wait_for()
        page.locator("#text textarea, #text input").first.fill(MORE)

        def nearest(factor: int, before: str) -> str:
            """Drag the slider, and wait until the nearest picture has another cosine than before; returns that."""
            page.locator("#lambda input[type=range]").evaluate(
                f"slider => {{ slider.value = {factor}; slider.dispatchEvent(new Event('input', {{bubbles: true}}));"
                "slider.dispatchEvent(new Event('pointerup', {bubbles: true})) }"
            )
            label = page.locator("#found-0 .grid-container .caption-label").first
            label.wait_for()
            for _ in range(150):
                if (found := label.inner_text()) != before:
                    return found
                page.wait_for_timeout(200)
            raise AssertionError(f"still {before}")

        itself = nearest(0, "")
        assert float(itself) == pytest.approx(1)
        assert float(nearest(3, itself)) < 0.999
        browser.close()
