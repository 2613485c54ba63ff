"""What is pushed to the Hugging Face Hub is what loads from there, and nothing is pushed unasked."""

import hashlib
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import open_clip
import pytest
import torch
import yaml
from huggingface_hub import constants

import pcclip
from data_prep.cli import main as publish
from pcclip.cli import main
from pcclip.model import load_clip, save_clip
from pcclip.model.loading import ClipSource
from pcclip.model.lora import Lora
from pcclip.model.module import LitDifferenceCLIP
from tests.data.test_datamodule import Recorder, make_data, make_module, make_trainer
from tests.helpers.batches import same as same_batches
from tests.helpers.hub_server import HubServer, Repository, hub_server
from tests.helpers.models import make_clip
from tests.helpers.shards import write_embedded_shards


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A local Hub that this process uses, with a token for it."""
    with hub_server() as server:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": server.url})
        monkeypatch.setenv("HF_TOKEN", server.token)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        yield server


class Terminal(io.StringIO):
    """Standard input of a person."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A saved model with a head."""
    clip = make_clip(tmp_path, "vit", head="linear")
    torch.nn.init.normal_(clip.head.weight)
    save_clip(clip, tmp_path / "model")
    return tmp_path / "model"


def push(model: Path, folder: Path, *arguments: str) -> int:
    return main(["export", "--model", str(model), "--output", str(folder), "--push", "user/name", *arguments])


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_pushed_model_loads_from_the_hub(tmp_path: Path, model: Path, hub: HubServer) -> None:
    assert push(model, tmp_path / "exported", "--yes", "true", "--license", "mit", "--private", "true") == 0
    repository = hub.repositories["models/user/name"]
    assert repository.private
    assert repository.files == {file.name: file.read_bytes() for file in (tmp_path / "exported").iterdir()}
    front, card = repository.files["README.md"].decode().split("---\n")[1:]
    assert yaml.safe_load(front)["license"] == "mit"
    assert 'open_clip.create_model_and_transforms("hf-hub:user/name")' in card
    clip = load_clip(f"local-dir:{model}")
    assert same(clip, pcclip.load("hf-hub:user/name", device="cpu").clip)
    assert same(clip, pcclip.load("hf://user/name", device="cpu").clip)
    assert same(clip.towers, open_clip.create_model("hf-hub:user/name"))

    save_clip(make_clip(tmp_path, "vit"), tmp_path / "other")  # no head: that of the earlier upload must not stay
    repository.files["notes.txt"] = b"kept"
    assert push(tmp_path / "other", tmp_path / "again", "--yes", "true") == 0
    assert repository.files.keys() == {file.name for file in (tmp_path / "again").iterdir()} | {"notes.txt"}
    assert same(load_clip(f"local-dir:{tmp_path / 'other'}"), load_clip("hf-hub:user/name"))


def test_pushed_adapters_load_as_their_card_says(tmp_path: Path, model: Path, hub: HubServer, capsys: Any) -> None:
    assert push(model, tmp_path / "exported", "--push", "user/base", "--yes", "true") == 0
    for name, base in {"hub": "hf-hub:user/base", "local": f"local-dir:{model}"}.items():
        module = LitDifferenceCLIP(ClipSource(base), [], lora=Lora(rank=2))
        for parameter, value in module.named_parameters():
            if ".lora_B." in parameter:
                torch.nn.init.normal_(value)
        module.model.head = torch.nn.Identity()  # adapters do not hold it
        checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
        module.on_save_checkpoint(checkpoint)
        torch.save(checkpoint, tmp_path / f"{name}.ckpt")
    adapters = (tmp_path / "adapter", "--format", "adapter", "--yes", "true")
    assert push(tmp_path / "local.ckpt", *adapters) == 2
    assert f"local-dir:{model}" in capsys.readouterr().err
    assert hub.repositories.keys() == {"models/user/base"}
    assert push(tmp_path / "hub.ckpt", *adapters) == 0
    card = hub.repositories["models/user/name"].files["README.md"].decode()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)
    expected = pcclip.load(str(tmp_path / "hub.ckpt"), device="cpu").clip.towers
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found["model"].clip.towers.state_dict()[name], value)
    assert not same(expected, load_clip(f"local-dir:{model}").towers)


def test_nothing_is_pushed_without_a_yes(
    tmp_path: Path, model: Path, hub: HubServer, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert push(model, tmp_path / "piped") == 2
    assert not (tmp_path / "piped").exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--yes" in error
    for number, answer in enumerate(["n\n", "\n", ""]):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        assert push(model, tmp_path / f"declined{number}") == 0
        files = list((tmp_path / f"declined{number}").iterdir())
        shown = capsys.readouterr().out
        size = sum(file.stat().st_size for file in files)
        assert all(part in shown for part in ("user/name", "public", f"{len(files)} files", f"{size:,} bytes"))
    assert hub.writes == []
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    assert push(model, tmp_path / "confirmed") == 0
    assert not hub.repositories["models/user/name"].private


def test_published_shards_train_as_local_ones(tmp_path: Path, shards: Path, hub: HubServer, capsys: Any) -> None:
    info = json.loads((shards / "dataset.json").read_text())
    text = {"text": "a", "reverse_text": "b", "pair_id": "p", "group": "g", "first": "1", "second": "2"}
    differences = tmp_path / "differences.jsonl"
    rows = [
        {**text, "model": "llama", "prompt": "difference 3"},
        {**text, "model": "llama", "prompt": "difference 3"},
        text,
    ]
    differences.write_text("".join(json.dumps(row) + "\n" for row in rows))
    info["made_by"] = {"inputs": {"differences.0": hashlib.sha256(differences.read_bytes()).hexdigest()}}
    (shards / "dataset.json").write_text(json.dumps(info))
    (shards / "notes.txt").write_text("not part of it")
    embedded = write_embedded_shards(tmp_path / "embedded", np.ones((2, 3, 4)), "external:other", "external:other")

    folders = f"--shards=[{shards}, {embedded}]"
    line = ["publish", folders, "--repository", "user/name", "--license", "cc-by-4.0", "--private", "true"]
    assert publish([*line, "--yes", "true", "--differences", f"[{differences}]"]) == 0
    repository = hub.repositories["datasets/user/name"]
    assert repository.private
    card = repository.files.pop("README.md").decode()
    local = {
        f"{folder.name}/{file.name}": file.read_bytes() for folder in (shards, embedded) for file in folder.iterdir()
    }
    del local["shards/notes.txt"]
    assert repository.files == local
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-4.0"
    lines = card.splitlines()
    assert "| `shards` | 10 | 40 | 120 | 3 |" in card
    assert "| 2 | llama | difference 3 |" in lines
    assert "| 1 | none | none |" in lines
    assert (
        len(
            re.findall(r"the first is (g\d+i\d), the second is (g\d+i\d) \| the first is \2, the second is \1 \|", card)
        )
        == 8
    )

    seen = []
    for name in (str(shards), "hf://datasets/user/name/shards"):
        seen.append(Recorder())
        data = make_data(name, cache_dir=str(tmp_path / "cached"))
        make_trainer(tmp_path, 1, seen[-1]).fit(make_module(), data)
    assert same_batches(seen[0].train, seen[1].train)

    (differences).write_text(json.dumps(text))
    assert publish([*line, "--yes", "true", "--differences", f"[{differences}]"]) == 2
    damaged = shards / info["shards"][1]["name"]
    damaged.write_bytes(damaged.read_bytes().replace(b"the first", b"THE FIRST"))
    assert publish([*line, "--yes", "true"]) == 2
    assert publish(line) == 2  # standard input is no terminal
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert [named in error for named, error in zip((str(differences), str(damaged), "--yes"), errors, strict=True)] == [
        True
    ] * 3
    assert repository.files == local


@pytest.mark.parametrize(
    ("name", "token", "named"),
    [
        ("name", "secret", "USER/NAME"),
        ("user/na me", "secret", "user/na me"),
        ("user/public", "secret", "public"),
        ("user/name", "wrong", "user/name"),
        ("user/name", "", "HF_TOKEN"),
        ("user/away", "secret", "user/away"),
    ],
)
def test_push_that_fails_ends_with_one_line(
    tmp_path: Path, model: Path, hub: HubServer, name: str, token: str, named: str, monkeypatch: Any, capsys: Any
) -> None:
    hub.repositories["models/user/public"] = Repository(private=False)
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    if name == "user/away":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert push(model, tmp_path / "exported", "--push", name, "--yes", "true", "--private", "true") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert named in errors[0]
    assert hub.repositories.keys() == {"models/user/public"}
    assert hub.repositories["models/user/public"].files == {}
