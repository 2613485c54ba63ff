"""Embedded shards hold what the tower says of the images, know which tower it was, and survive interruptions."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from data_prep.partial import FinishedShard, PartialFolder
from data_prep.steps import embed, shard
from pcclip.data import encoding
from pcclip.data.format import DatasetInfo
from pcclip.data.groups import read_groups
from pcclip.model import DifferenceCLIP, load_clip, save_clip
from tests.helpers.models import TEXT, TIMM
from tests.helpers.shards import group_record, image_sample, write_dataset


def contents(folder: str) -> dict[str, bytes]:
    """The bytes of every file in a folder."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@pytest.fixture(scope="module")
def image_shards(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embed") / "shards"
    captions, differences = world / "shapes/train/captions.jsonl", world / "differences.jsonl"
    shard.Shard(captions=[str(captions)], output=str(folder), differences=[str(differences)], groups_per_shard=2).run()
    return folder


@pytest.fixture
def options(image_shards: Path, tiny_clip: DifferenceCLIP, tmp_path: Path) -> embed.Embed:
    save_clip(tiny_clip, tmp_path / "clip")
    return embed.Embed(
        shards=str(image_shards),
        output=str(tmp_path / "embedded"),
        model=f"local-dir:{tmp_path / 'clip'}",
        batch_size=24,
        workers=0,
        accelerator="cpu",
    )


def test_round_trip(options: embed.Embed, image_shards: Path, tiny_clip: DifferenceCLIP) -> None:
    options.run()
    info, source = DatasetInfo.read(options.output), DatasetInfo.read(image_shards)
    assert info.kind == "embeddings"
    for name in ("groups", "images", "pairs", "group_size"):
        assert getattr(info, name) == getattr(source, name)
    assert info.embedding is not None
    assert (info.embedding.width, info.embedding.fingerprint) == (tiny_clip.embed_dim, tiny_clip.image_fingerprint)
    live = list(read_groups(image_shards, tiny_clip.image_transform))
    for image_group, group in zip(live, read_groups(options.output), strict=True):
        for name in ("key", "ids", "captions", "pairs"):
            assert getattr(group, name) == getattr(image_group, name)
        assert image_group.images is not None
        assert group.embeddings is not None
        with torch.no_grad():
            expected = tiny_clip.encode_images(image_group.images)
        torch.testing.assert_close(group.embeddings, expected, atol=1e-3, rtol=0)


def test_workers_do_not_change_the_bytes(options: embed.Embed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "FEW", 0)
    options.batch_size = 5  # several batches a shard
    options.run()
    first = contents(options.output)
    assert [*first] == ["000000.tar", "000001.tar", "000002.tar", "dataset.json"]
    options.output, options.workers = str(tmp_path / "again"), 2
    options.run()
    assert contents(options.output) == first


@pytest.fixture
def interrupted(options: embed.Embed, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run that dies after its second shard, and the list to which the next run adds the shards that it makes."""
    made: list[str] = []
    record, dies = PartialFolder.record, True

    def noting(self: PartialFolder, done: FinishedShard) -> None:
        if dies and len(made) == 2:
            raise ConnectionError("the power is gone")
        made.append(done.shard.name)
        record(self, done)

    monkeypatch.setattr(PartialFolder, "record", noting)
    with pytest.raises(ConnectionError):
        options.run()
    assert made == ["000000.tar", "000001.tar"]
    made.clear()
    dies = False
    return made


def test_interrupted_run_continues_with_the_next_shard(
    options: embed.Embed, interrupted: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not (tmp_path / "embedded").exists()
    options.run()
    assert interrupted == ["000002.tar"]
    done = contents(options.output)
    assert not (tmp_path / "embedded.partial").exists()
    options.run()
    assert "up to date" in capsys.readouterr().out
    options.output = str(tmp_path / "at_once")
    options.run()
    assert contents(options.output) == done


def test_what_another_precision_left_is_not_used(options: embed.Embed, interrupted: list[str], tmp_path: Path) -> None:
    options.precision = "bf16-mixed"
    options.run()
    assert interrupted == ["000000.tar", "000001.tar", "000002.tar"]
    coarse = contents(options.output)
    assert json.loads(coarse["dataset.json"])["made_by"]["options"]["precision"] == "bf16-mixed"
    coarse_groups = list(read_groups(options.output))
    options.precision = "32-true"
    options.run()
    assert contents(options.output)["000000.tar"] != coarse["000000.tar"]
    for group, other in zip(read_groups(options.output), coarse_groups, strict=True):
        assert group.embeddings is not None
        assert other.embeddings is not None
        assert (group.embeddings * other.embeddings).sum(dim=1).min() > 0.99


@pytest.mark.distributed
@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("left", [3, 1])
def test_two_processes_write_what_one_does(
    options: embed.Embed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], left: int
) -> None:
    # Three shards make one process wait for the other; a single one leaves nothing to do for the second.
    if left == 3:
        shutil.rmtree(tmp_path / "embedded.partial")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    replace(options, devices=2, workers=1).run()
    said = capfd.readouterr()
    assert said.out.count("6 groups, 48 embeddings of width 32") == 1
    assert "Warning" not in said.err
    assert list(here.iterdir()) == []
    assert not (tmp_path / "embedded.partial").exists()
    two = contents(options.output)
    options.output = str(tmp_path / "alone")
    options.run()
    assert two == contents(options.output)


def test_damaged_images_become_nan(options: embed.Embed, image_shards: Path, tmp_path: Path) -> None:
    source = DatasetInfo.read(image_shards)
    folder = tmp_path / "damaged"
    folder.mkdir()
    for entry in source.shards:
        payload = bytearray((image_shards / entry.name).read_bytes())
        if entry.name == "000001.tar":
            start = payload.index(b"IDAT")
            payload[start + 4 : start + 40] = bytes(36)
            entry.sha256 = hashlib.sha256(payload).hexdigest()
        (folder / entry.name).write_bytes(payload)
    source.write(folder)
    options.shards = str(folder)
    options.run()
    groups = list(read_groups(options.output))
    assert sum(int((~group.intact).sum()) for group in groups) == 1
    (damaged,) = [group for group in groups if not group.intact.all()]
    assert all(damaged.intact[pair["first"]] and damaged.intact[pair["second"]] for pair in damaged.pairs)
    assert json.loads((tmp_path / "embedded.manifest.json").read_text())["counts"]["damaged_images"] == 1


def test_a_shard_that_is_not_the_packed_one_is_refused(
    options: embed.Embed, image_shards: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(image_shards, folder)
    payload = (folder / "000001.tar").read_bytes()
    (folder / "000001.tar").write_bytes(payload.replace(b"first", b"First", 1))  # as readable as before
    options.shards, options.workers = str(folder), 1
    with pytest.raises(ValueError, match=r"damaged/000001.tar"):
        options.run()
    assert not (tmp_path / "embedded.partial/records/000001.tar.json").exists()
    assert not (tmp_path / "embedded").exists()


def test_shards_without_any_readable_group(options: embed.Embed, tmp_path: Path) -> None:
    record = group_record(0, 2)
    good = image_sample(1, record)
    bad = image_sample(0, record) | {"00.png": b"no", "01.png": b"picture"}
    info = {"kind": "images", "group_size": 2, "images": 6, "pairs": 6}
    options.shards = str(write_dataset(tmp_path / "poor", [[bad], [bad, good], []], info))
    options.run()
    found = DatasetInfo.read(options.output)
    assert [(shard.name, shard.groups) for shard in found.shards] == [("00001.tar", 1)]
    assert len(list(read_groups(options.output))) == 1
    assert json.loads((tmp_path / "embedded.manifest.json").read_text())["counts"]["damaged_groups"] == 2
    write_dataset(tmp_path / "poor", [[bad]], info)
    with pytest.raises(ValueError, match=r"poor: not one group can be read"):
        options.run()


def test_embeddings_that_are_not_finite_are_refused(
    options: embed.Embed, tiny_clip: DifferenceCLIP, tmp_path: Path
) -> None:
    with torch.no_grad():
        next(tiny_clip.towers.visual.parameters()).fill_(torch.inf)
    save_clip(tiny_clip, tmp_path / "broken")
    options.model = f"local-dir:{tmp_path / 'broken'}"
    with pytest.raises(ValueError, match=r"000000.tar.*embed.precision=32-true"):
        options.run()
    assert not Path(options.output).exists()


@pytest.fixture
def backbone(options: embed.Embed, tmp_path: Path) -> embed.Embed:
    """Return options with a tiny timm tower, whose weights are in a separate file as those of a pretrained backbone are."""
    vision = {**TIMM, "timm_model_name": "test_resnet", "timm_proj": "none"}
    config = tmp_path / "tiny_backbone.json"
    config.write_text(json.dumps({"embed_dim": 128, "vision_cfg": vision, "text_cfg": {**TEXT, "width": 128}}))
    torch.manual_seed(3)
    tower = load_clip(str(config)).towers.visual
    save_file({key: value.contiguous() for key, value in tower.state_dict().items()}, tmp_path / "backbone.safetensors")
    options.model, options.image_weights = str(config), str(tmp_path / "backbone.safetensors")
    return options


def test_backbone_weights_and_preprocessing_of_ones_own(
    backbone: embed.Embed, image_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone.preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    torch.manual_seed(4)  # nothing of what is written may hang on the random weights of the text tower
    backbone.run()
    stored = list(read_groups(backbone.output))
    model = load_clip(backbone.model, image_weights=backbone.image_weights).eval()
    for group, image_group in zip(stored, read_groups(image_shards, model.image_transform), strict=True):
        assert image_group.images is not None
        assert group.embeddings is not None
        with torch.no_grad():  # the bare tower, its input from -1 to 1 as the preprocessing says
            expected = model.towers.visual(image_group.images / 127.5 - 1)
        expected = expected / expected.norm(dim=-1, keepdim=True)
        torch.testing.assert_close(group.embeddings, expected, atol=1e-3, rtol=0)
    before = DatasetInfo.read(backbone.output).embedding
    torch.manual_seed(5)
    backbone.run()
    assert "up to date" in capsys.readouterr().out
    backbone.preprocess = {}
    backbone.run()
    after = DatasetInfo.read(backbone.output).embedding
    assert before is not None
    assert after is not None
    assert (before.width, after.width) == (128, 128)
    assert (before.fingerprint != after.fingerprint, after.fingerprint) == (True, model.image_fingerprint)


def test_bad_towers_are_refused(backbone: embed.Embed, tmp_path: Path) -> None:
    for change, message in (
        ({"image_weights": None}, r"embed.model: .*tiny_backbone.json comes without weights; give `pretrained`"),
        (
            {"image_weights": str(tmp_path / "nowhere.safetensors")},
            r"nowhere.safetensors: image tower weights not found",
        ),
        ({"preprocess": {"men": [0.5] * 3}}, r"preprocess: unknown key men; use .*mean"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            replace(backbone, **change).run()
    assert not Path(backbone.output).exists()


def test_bad_input(options: embed.Embed, tmp_path: Path) -> None:
    options.run()
    for change, message in (
        ({"shards": options.output}, r"embedded: holds embeddings, not images"),
        ({"shards": str(tmp_path / "nowhere")}, r"nowhere: shard folder not found"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            replace(options, output=str(tmp_path / "twice"), **change).run()
