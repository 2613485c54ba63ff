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
from pcclip.tools.attributes import Attribute, phrased, read_attribute, vocabulary
from pcclip.tools.demo_answers import Shown
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
    command += ["--base", str(saved), "--below", "true", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "GRADIO_TEMP_DIR": str(tmp_path / "gradio")}
        )
        try:
            deadline = time.monotonic() + 300
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
    library.shown(str(photos), str(saved))
    assert asked == [str(photos)]  # once
    for pictures, name in ((str(root / "grey"), str(saved)), (str(photos), str(root / "other"))):
        with pytest.raises(ValueError, match=r"not (one of|among) the (models|pictures) of this page"):
            library.shown(pictures, name)


@pytest.fixture
def shown(model: InferenceModel, photos: Path) -> Shown:
    return Shown(model, model.embed(photos))


@pytest.fixture
def axis() -> Attribute:
    return phrased(MORE, LESS)


def test_words_fill_the_templates_and_sentences_stay() -> None:
    size = read_attribute("size")
    assert phrased(size.more, f" {size.less}").wordings == size.wordings
    assert [(each.text, each.reverse) for each in phrased(MORE, LESS).wordings] == [(MORE, LESS)]
    for less in (" ", MORE):
        with pytest.raises(ValueError, match="two different texts"):
            phrased(MORE, less)


def test_ranking_is_that_of_rank_least_first(shown: Shown, photos: Path, axis: Attribute) -> None:
    ranking = shown.ranking(axis)
    expected = shown.model.rank(photos, more=MORE, less=LESS)
    strip = shown.strip(ranking)
    assert [tile.key for tile in strip] == [row.path for row in reversed(expected)]
    assert [int(tile.caption.split(":")[0]) for tile in strip] == [row.rank for row in reversed(expected)]
    assert ranking.scores.sort().values.tolist() == pytest.approx([row.score for row in reversed(expected)], abs=1e-6)
    keys = [tile.key for tile in strip]
    assert [tile.key for tile in shown.around(ranking, 0)] == keys[:6]
    assert [tile.key for tile in shown.around(ranking, 100)] == keys[-6:]


def test_marked_pictures_are_examples_once_both_ends_have_one(
    shown: Shown, photos: Path, root: Path, axis: Attribute
) -> None:
    keys = [picture.key for picture in shown.gallery.pictures]
    marks = {
        keys[0]: "high",
        keys[1]: "high",
        keys[9]: "low",
        str(root / "grey" / "0.png"): "low",
    }  # one of another set
    expected = shown.model.rank(photos, MORE, LESS, high=keys[:2], low=keys[9:10], blend=0.2)
    ranking = shown.ranking(axis, marks, 0.2)
    assert [keys[place] for place in ranking.order] == [row.path for row in reversed(expected)]
    words, examples = (shown.ranking(axis, marks, blend).scores for blend in (1.0, 0.0))
    alike = [(words[a] > words[b]) == (examples[a] > examples[b]) for a in range(12) for b in range(a)]
    assert ranking.agreement == pytest.approx(sum(map(bool, alike)) / len(alike))
    assert [(tile.key, tile.caption) for tile in shown.examples(marks)] == [
        (keys[0], "high"), (keys[1], "high"), (keys[9], "low")
    ]  # fmt: skip
    one_end = shown.ranking(axis, {keys[0]: "high"})
    assert torch.equal(one_end.scores, shown.ranking(axis).scores)


def test_agreement_counts_pairs_that_text_and_opposite_order_alike(shown: Shown, axis: Attribute) -> None:
    more, less = (shown.model.embed_texts([text])[0] for text in (MORE, LESS))
    scores = [shown.model.scores(shown.gallery, text) for text in (more, less)]
    alike = [
        (scores[0][first] > scores[0][second]) == (scores[1][first] < scores[1][second])
        for first in range(12)
        for second in range(first)
    ]
    assert shown.ranking(axis).agreement == pytest.approx(sum(map(bool, alike)) / len(alike))


def test_a_search_never_returns_its_start(shown: Shown, photos: Path, axis: Attribute) -> None:
    key = shown.gallery.pictures[3].key
    by_name = shown.found(key, axis, 0)
    by_upload = shown.found(Image.open(key), axis, 0)
    assert [tile.key for tile in by_name] == [tile.key for tile in by_upload]
    assert len(by_name) == 8
    assert key not in [tile.key for tile in by_name]
    cosines = [float(tile.caption) for tile in by_name]
    assert cosines == sorted(cosines, reverse=True)


def test_a_comparison_is_reversed_with_its_pictures(shown: Shown, axis: Attribute) -> None:
    one, other = (shown.gallery.pictures[index].key for index in (0, 5))
    ((side, sure),) = shown.compared(one, other, [axis]).items()
    cosines = shown.model.compare(one, other, [MORE, LESS])
    margin = shown.model.logit_scale.exp() * (cosines[MORE] - cosines[LESS])
    assert side == next(iter(cosines))
    assert sure == pytest.approx(float(margin.abs().sigmoid()), abs=1e-6)
    assert list(shown.compared(other, one, [axis])) == [MORE if side == LESS else LESS]
    known = vocabulary()
    found = shown.compared(one, other, [axis, *known])
    assert found[side] == pytest.approx(sure, abs=1e-6)  # the visitor's own is always among them
    best = [row.text for row in shown.model.explain(one, other, known)[:7]]
    assert [text for text in found if text != side] == best
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_classes_share_the_pictures(shown: Shown) -> None:
    classes = ["green square", "red square", "dark sky"]
    texts = shown.model.embed_texts([f"a picture of a {name}" for name in classes])
    predicted = (shown.gallery.embeddings @ texts.T).argmax(1)
    shares, tiles = shown.classified(classes, "a picture of a {}")
    assert shares == {
        name: pytest.approx(float((predicted == number).double().mean())) for number, name in enumerate(classes)
    }
    names = [picture.key for picture in shown.gallery.pictures]
    for tile in tiles:
        assert tile.caption.startswith(classes[predicted[names.index(tile.key)]])


def test_what_was_picked_in_another_set_is_forgotten(shown: Shown) -> None:
    names = [picture.key for picture in shown.gallery.pictures]
    assert [shown.named(picked, 1) for picked in (None, "elsewhere/0.png", names[3])] == [names[1], names[1], names[3]]


def test_this_machine_only_unless_asked() -> None:
    assert tool_parser("demo").parse_args(["photos"]).host == "127.0.0.1"


@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")
def test_a_port_in_use_is_named_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
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
    assert upload(address, bytes(11_000_000))[0] == 413
    chosen, texts = (str(photos), str(saved), "nothing"), (LESS, MORE)
    _, picture = upload(address, (photos / "03.png").read_bytes())
    assert ask(address, "upload", picture)[0]
    assert ask(address, "search", *chosen, *texts, 1)[0]
    _, notes = upload(address, b"no picture", "notes.txt")
    for function, data, names in (
        ("upload", (notes,), "notes.txt: not a JPEG"),
        ("rank", (*chosen, "", MORE, "0.5"), repr(MORE)),
        ("rank", (*chosen, MORE, MORE, "0.5"), repr(MORE)),
        ("classify", (*chosen, "cat", "a {}"), "1 classes"),
        ("classify", (*chosen, "cat, dog", "a"), "{}"),
    ):
        completes, answer = ask(address, function, *data)
        assert not completes
        assert names in answer
    assert "Traceback" not in (tmp_path / "log").read_text()

    for pictures, known in ((photos, True), (photos / "sub", True), (photos.parent, False), ("/", False)):
        assert ask(address, "rank", str(pictures), str(saved), "nothing", *texts, "0.5")[0] == known


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
@pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page(address: str, model: InferenceModel, photos: Path, root: Path, width: int) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    other = load_model(str(root / "other"))
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(180_000)
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.goto(address)

        def choose(box: str, name: Path | str) -> None:
            page.locator(f"#{box} input").click()
            page.get_by_role("option", name=str(name), exact=True).click()

        def wait_for_ranking(gallery: str, by: InferenceModel, folder: Path, axis: Attribute) -> None:
            shown = Shown(by, by.embed(folder))
            expected = [tile.caption for tile in shown.strip(shown.ranking(axis))]
            labels = page.locator(f"#{gallery} .grid-container .caption-label")
            playwright.expect(labels).to_have_text(expected, timeout=180_000)

        wait_for_ranking("ranked-0", model, photos, read_attribute("crowd"))  # before anything is typed
        wait_for_ranking("ranked-1", model, photos, read_attribute("crowd"))
        page.locator("#axis-light").click()
        wait_for_ranking("ranked-0", model, photos, read_attribute("light"))
        assert page.locator("#more textarea, #more input").first.input_value() == read_attribute("light").more
        below = page.locator("#ranked-0 .caption-label").first.bounding_box()["y"]
        picture = page.locator("#ranked-0 .thumbnail-item img").first.bounding_box()
        assert below >= picture["y"] + picture["height"] - 1  # no caption covers its picture
        for box, text in (("less", LESS), ("more", MORE)):
            page.locator(f"#{box} textarea, #{box} input").first.fill(text)
        page.locator("#go").click()
        wait_for_ranking("ranked-0", model, photos, phrased(MORE, LESS))

        shown, axis = Shown(model, model.embed(photos)), phrased(MORE, LESS)
        words = [tile.key for tile in shown.strip(shown.ranking(axis))]
        page.locator("#by-examples button").first.click()
        for place, mark in ((11, "high"), (0, "low")):
            page.locator("#click label", has_text=mark).click()
            page.locator("#ranked-0 .thumbnail-item").nth(place).click()
            page.locator("#examples .caption-label", has_text=mark).wait_for()
        marked = shown.strip(shown.ranking(axis, {words[11]: "high", words[0]: "low"}))
        ranked = page.locator("#ranked-0 .grid-container .caption-label")
        playwright.expect(ranked).to_have_text([tile.caption for tile in marked], timeout=180_000)
        for left in (1, 0):
            page.locator("#examples .thumbnail-item").first.click()  # remove the marks
            playwright.expect(page.locator("#examples .caption-label")).to_have_count(left, timeout=180_000)
        wait_for_ranking("ranked-0", model, photos, axis)
        page.locator("#click label", has_text="search").click()

        page.locator("#ranked-0 .thumbnail-item").nth(2).click()  # search from it
        page.locator("#found-0 .caption-label").nth(7).wait_for()
        page.locator("#lambda input[type=range]").evaluate(
            "slider => { slider.value = 0; slider.dispatchEvent(new Event('input', {bubbles: true}));"
            "slider.dispatchEvent(new Event('pointerup', {bubbles: true})) }"
        )
        start = shown.strip(shown.ranking(axis))[2].key
        found = page.locator("#found-0 .caption-label")
        playwright.expect(found).to_have_text([tile.caption for tile in shown.found(start, axis, 0)], timeout=180_000)
        with page.expect_file_chooser() as chooser:
            page.locator("#upload").click()
        chooser.value.set_files(root / "grey" / "3.png")
        grey = shown.found(Image.open(root / "grey" / "3.png"), axis, 0)
        playwright.expect(found).to_have_text([tile.caption for tile in grey], timeout=180_000)

        page.locator("#found-0 .thumbnail-item").nth(1).click()  # compare it with the start
        page.locator("#compared-0-bars").wait_for()
        page.locator("#compared-1-bars").wait_for()
        assert 8 <= page.locator("#compared-0-bars .confidence").count() <= 9
        assert page.locator("#first img").is_visible()
        page.get_by_role("tab", name="Classify").click()
        page.locator("#classified-0 .caption-label").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == width

        page.get_by_role("tab", name="Rank").click()
        page.locator("#choose button").first.click()
        choose("model", root / "other")
        wait_for_ranking("ranked-0", other, photos, phrased(MORE, LESS))
        choose("pictures", root / "grey")
        wait_for_ranking("ranked-0", other, root / "grey", phrased(MORE, LESS))
        choose("second", "nothing")
        page.locator("#ranked-1").wait_for(state="hidden")
        assert all(url.startswith((address, "data:", "blob:")) for url in requested)  # nothing from other servers
        browser.close()
