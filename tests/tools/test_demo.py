"""`pcclip demo` in a headless browser: typing an attribute reorders the pictures."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pcclip.tools.model import Model

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
]


@pytest.fixture
def address(saved: Path, photos: Path, tmp_path: Path) -> Iterator[str]:
    """The command, serving the test's pictures with two models."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pcclip.cli", "demo", str(photos), "--model", str(saved), "--base", str(saved)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log, env=os.environ)
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None, (tmp_path / "log").read_text()
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                    time.sleep(0.5)
            heard = psutil.Process(process.pid).net_connections(kind="tcp")
            assert {each.laddr.ip for each in heard if each.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


def test_typing_an_attribute_reorders_the_pictures(address: str, model: Model, photos: Path) -> None:
    more, less = "the first is brighter", "the first is darker"
    expected = [f"{row.rank}: {row.score:+.3f}" for row in model.rank(photos, more=more, less=less)]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)
        shown = []
        for texts in ((more, less), (less, more)):
            for box, text in zip(("more", "less"), texts, strict=True):
                page.locator(f"#{box} textarea, #{box} input").first.fill(text)
            page.locator("#less textarea, #less input").first.press("Enter")
            pictures = page.locator("#ranked-0 .grid-container img")
            before = shown[-1] if shown else []
            for _ in range(100):
                now = [pictures.nth(place).get_attribute("src") for place in range(pictures.count())]
                if len(now) == 12 and now != before:
                    break
                page.wait_for_timeout(200)
            shown.append(now)
            if not before:
                captions = page.locator("#ranked-0 .grid-container .caption-label").all_inner_texts()
                assert [caption.strip() for caption in captions] == expected
        assert shown[0] != shown[1]
        assert len(shown[1]) == 12
        assert page.locator("#ranked-1 .grid-container img").count() == 12
        browser.close()
