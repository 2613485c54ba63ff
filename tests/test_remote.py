"""Models at addresses are copied once, and again when they change."""

from pathlib import Path

import fsspec
import pytest
import torch

import pcclip
from pcclip import remote
from pcclip.model import load_clip, save_clip
from pcclip.remote import local_file, local_folder
from tests.helpers.http_server import file_server
from tests.helpers.models import make_clip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def test_models_load_from_addresses(tmp_path: Path) -> None:
    model = make_clip(tmp_path, "vit", head="linear")
    torch.nn.init.normal_(model.head.weight)
    save_clip(model, tmp_path / "saved")
    fsspec.filesystem("memory").put(str(tmp_path / "saved"), "/bucket/saved", recursive=True)
    loaded = load_clip("local-dir:memory://bucket/saved")
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert pcclip.load("memory://bucket/saved", device="cpu").clip.image_fingerprint == model.image_fingerprint
    with pytest.raises(ConnectionError, match="memory://bucket/nowhere"):
        load_clip("local-dir:memory://bucket/nowhere")


def test_copies_follow_what_is_at_the_address() -> None:
    with file_server(b"") as server:
        folder = server.url.removesuffix("file.bin")
        server.files = {"": b'<a href="a.txt">a</a>', "a.txt": b"one"}
        assert [(file.name, file.read_bytes()) for file in local_folder(folder).iterdir()] == [("a.txt", b"one")]
        assert local_file(f"{folder}a.txt").read_bytes() == b"one"
        server.files["a.txt"] = b"two"
        asked = len(server.requests)
        assert local_file(f"{folder}a.txt").read_bytes() == b"two"
        assert len(server.requests) > asked
    assert local_file("here/a.txt") == Path("here/a.txt")
