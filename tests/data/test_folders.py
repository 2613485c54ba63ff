"""Remote shards are copied once, whole or not at all, and nothing but the user's own command is ever run."""

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pcclip import remote
from pcclip.data.folders import ShardFolder, expand
from pcclip.remote import is_address
from tests.data.test_datamodule import Recorder, make_data, make_module, make_trainer
from tests.helpers.batches import same
from tests.helpers.http_server import Fault, FileServer, file_server


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)


@pytest.fixture
def server(shards: Path) -> Iterator[FileServer]:
    """Serves the folder `shards`."""
    with file_server(b"") as server:
        server.files = {path.name: path.read_bytes() for path in shards.iterdir()}
        yield server


def address(server: FileServer) -> str:
    return server.url.rpartition("/")[0]


def test_braces_name_several_folders() -> None:
    assert expand(["data/train-{08..10}", "val"]) == ["data/train-08", "data/train-09", "data/train-10", "val"]
    assert expand(["pipe:ssh host{1..2} cat /data/{name}"]) == [f"pipe:ssh host{n} cat /data/{{name}}" for n in (1, 2)]
    assert is_address("s3://bucket/train")
    assert not is_address("data/train")


@pytest.mark.parametrize("scheme", ["http", "pipe", "memory"])
def test_remote_shards_train_as_local_ones(tmp_path: Path, shards: Path, server: FileServer, scheme: str) -> None:
    if scheme == "memory":
        fsspec.filesystem("memory").put(str(shards), "/bucket/train", recursive=True)
    name = {"http": address(server), "pipe": f"pipe:cat {shards}/{{name}}", "memory": "memory://bucket/train"}[scheme]
    local = Recorder()
    make_trainer(tmp_path, 2, local).fit(make_module(), make_data(shards))
    for workers in (2, 0):  # the second time without copying
        seen = Recorder()
        data = make_data(name, num_workers=workers, cache_dir=str(tmp_path / "cache"))
        make_trainer(tmp_path, 2, seen).fit(make_module(), data)
        assert same(seen.train, local.train)
    kept = [path for path in (tmp_path / "cache").iterdir() if path.suffix == ".tar"]
    assert {path.read_bytes() for path in kept} == {path.read_bytes() for path in shards.glob("*.tar")}
    if scheme == "http":
        assert len(server.requests) == 3 + 2  # three shards once, dataset.json at each start


def test_folder_of_a_hugging_face_dataset(
    tmp_path: Path, shards: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": server.url.removesuffix("/folder/file.bin")})
    oid = "0" * 40
    tree = [
        {"type": "file", "oid": oid, "size": len(content), "path": f"train/{name}"}
        for name, content in server.files.items()
    ]
    server.files["name"] = server.files["main"] = json.dumps({"id": "user/name", "sha": oid, "siblings": []}).encode()
    server.files["train"] = json.dumps(tree).encode()
    folder = ShardFolder.open("hf://datasets/user/name/train", tmp_path / "cache")
    for shard in folder.info.shards:
        assert folder.path(shard).read_bytes() == (shards / shard.name).read_bytes()


def test_faults_of_the_network_are_survived(tmp_path: Path, shards: Path, server: FileServer) -> None:
    server.faults = [Fault(drop_after=10), Fault(), Fault(drop_after=700), Fault(content=b"", status=404)]
    folder = ShardFolder.open(address(server), tmp_path)
    path = folder.path(folder.info.shards[1])
    assert path.read_bytes() == (shards / "00001.tar").read_bytes()
    assert sorted(file.suffix for file in tmp_path.iterdir() if file != shards) == [".lock", ".tar"]


def test_lost_connection_and_wrong_shard_end_with_the_address(tmp_path: Path, server: FileServer) -> None:
    cache = tmp_path / "cache"
    folder = ShardFolder.open(address(server), cache)
    server.files["00000.tar"] = server.files["00001.tar"]
    with pytest.raises(ConnectionError, match=r"http://.*/00000.tar.*sha256"):
        folder.path(folder.info.shards[0])
    server.always = Fault(status=404)
    for read in (lambda: folder.path(folder.info.shards[2]), lambda: ShardFolder.open(address(server), cache)):
        with pytest.raises(ConnectionError, match=r"http://127.0.0.1:\d+/folder/"):
            read()
    assert {path.suffix for path in cache.iterdir()} == {".lock"}


@pytest.mark.parametrize("name", ["x; touch ran", "$(touch ran).tar", "../00000.tar", "-rf.tar", "pipe:touch ran"])
def test_names_from_the_description_are_no_commands(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = shards / "dataset.json"
    content = json.loads(file.read_text())
    content["shards"][0]["name"] = name
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"dataset\.json.*shard"):
        ShardFolder.open(f"pipe:cat {shards}/{{name}}", tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["pipe:cat data/train", "nowhere://bucket/train"])
def test_folder_that_cannot_be_opened_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ShardFolder.open(name, tmp_path)
