"""`pcclip demo`: what can be chosen, what a visitor can reach, and the page in a headless browser."""

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
from pcclip.tools.inference import InferenceModel
from pcclip.tools.library import Library, folders_below, models_below
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


def post(address: str, body: bytes, kind: str = "application/json") -> tuple[int, str]:
    """Status and answer of a request."""
    try:
        with urlopen(Request(address, body, {"Content-Type": kind}), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, ""


def upload(address: str, content: bytes, name: str = "a.png") -> tuple[int, Any]:
    """Status, and what a visitor's upload is called."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    code, found = post(
        f"{address}/gradio_api/upload", head + content + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"
    )
    data = {"path": json.loads(found)[0], "meta": {"_type": "gradio.FileData"}, "orig_name": name} if found else None
    return code, data


def ask(address: str, function: str, *data: Any) -> tuple[bool, str]:
    """Whether a function of the page completes, and its answer."""
    _, event = post(f"{address}/gradio_api/call/{function}", json.dumps({"data": data}).encode())
    with urlopen(f"{address}/gradio_api/call/{function}/{json.loads(event)['event_id']}") as answer:
        said = str(answer.read().decode())
    return "event: complete" in said, said


@pytest.mark.slow
def test_a_visitor_reaches_nothing_else_and_sees_errors(
    address: str, photos: Path, saved: Path, root: Path, tmp_path: Path
) -> None:
    (root / "secret.txt").write_text("secret")
    for secret in (root / "secret.txt", "pyproject.toml"):
        with pytest.raises(HTTPError, match="403"):
            urlopen(f"{address}/gradio_api/file={secret}", timeout=30)
    assert upload(address, bytes(1000))[0] == 200
    assert upload(address, bytes(2_000_000))[0] == 413
    chosen = (str(photos), str(saved), "nothing")
    _, picture = upload(address, (photos / "03.png").read_bytes())
    assert ask(address, "seeking", *chosen, picture, MORE, 1)[0]
    _, notes = upload(address, b"no picture", "notes.txt")
    for data, names in (
        ((notes, MORE, 1), "notes.txt: not a JPEG"),
        ((picture, " ", 1), "field"),
        ((None, MORE, 1), "picture"),
    ):
        completes, answer = ask(address, "seeking", *chosen, *data)
        assert not completes
        assert names in answer
    for texts in (("", LESS), (MORE, MORE)):
        assert not ask(address, "rank", *chosen, *texts)[0]
    assert "Traceback" not in (tmp_path / "log").read_text()

    for pictures, known in ((photos, True), (photos / "sub", True), (photos.parent, False), ("/", False)):
        assert ask(address, "rank", str(pictures), str(saved), "nothing", MORE, LESS)[0] == known


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

        def choose(box: str, name: Path | str) -> None:
            page.locator(f"#{box} input").click()
            page.get_by_role("option", name=str(name), exact=True).click()

        def wait_for(gallery: str, labels: list[str]) -> None:
            """Wait until a gallery shows so labelled pictures."""
            for _ in range(150):
                texts = page.locator(f"#{gallery} .grid-container .caption-label").all_inner_texts()
                if [text.strip() for text in texts] == labels:
                    return
                page.wait_for_timeout(200)
            raise AssertionError(f"{gallery} does not show {labels}")

        def labels(by: InferenceModel, folder: Path) -> list[str]:
            return [f"{row.rank}: {row.score:+.3f}" for row in by.rank(folder, more=MORE, less=LESS)]

        wait_for("ranked-0", [f"{number:02d}.png" for number in range(12)])  # before anything is typed
        for box, text in (("more", MORE), ("less", LESS)):
            page.locator(f"#{box} textarea, #{box} input").first.fill(text)
        page.locator("#less textarea, #less input").first.press("Enter")
        wait_for("ranked-0", labels(model, photos))
        wait_for("ranked-1", labels(model, photos))
        choose("model", root / "other")
        wait_for("ranked-0", labels(other, photos))
        choose("pictures", root / "grey")
        wait_for("ranked-0", labels(other, root / "grey"))
        choose("second", "nothing")
        page.locator("#ranked-1").wait_for(state="hidden")

        page.get_by_role("tab", name="Search").click()
        page.locator("#picture input[type=file]").set_input_files(root / "grey" / "3.png")
        page.locator("#preview img").wait_for()
        page.locator("#text textarea, #text input").first.fill(MORE)
        page.locator("#search").click()
        found = page.locator("#found-0 .grid-container .caption-label").first
        found.wait_for()
        before = found.inner_text()
        page.locator("#lambda input[type=range]").evaluate(
            "slider => { slider.value = 0; slider.dispatchEvent(new Event('input', {bubbles: true}));"
            "slider.dispatchEvent(new Event('pointerup', {bubbles: true})) }"
        )
        page.wait_for_function(
            "before => document.querySelector('#found-0 .caption-label').innerText != before", arg=before
        )
        assert float(found.inner_text()) == pytest.approx(1)
        browser.close()
