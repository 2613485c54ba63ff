"""Embedded shards hold what the tower says of the images, know which tower it was, and survive interruptions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from data_prep import embed, shard
from pcclip.data.format import DatasetInfo
from pcclip.data.groups import read_groups
from pcclip.model import DifferenceModel, load_clip, save_clip
from tests.helpers.models import TEXT, TIMM


@pytest.fixture(scope="module")
def image_shards(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embed") / "shards"
    captions, differences = world / "shapes/train/captions.jsonl", world / "differences.jsonl"
    shard.run(shard.Options([str(captions)], str(folder), [str(differences)], groups_per_shard=2))
    return folder


@pytest.fixture
def options(image_shards: Path, tiny_clip: DifferenceModel, tmp_path: Path) -> embed.Options:
    save_clip(tiny_clip, tmp_path / "clip")
    return embed.Options(
        str(image_shards),
        str(tmp_path / "embedded"),
        f"local-dir:{tmp_path / 'clip'}",
        groups_per_batch=3,
        workers=0,
        device="cpu",
    )


def test_round_trip(options: embed.Options, image_shards: Path, tiny_clip: DifferenceModel) -> None:
    embed.run(options)
    info, source = DatasetInfo.read(options.output), DatasetInfo.read(image_shards)
    assert info.kind == "embeddings"
    assert (info.groups, info.images, info.pairs, info.group_size) == (
        source.groups,
        source.images,
        source.pairs,
        source.group_size,
    )
    assert info.embedding is not None
    assert (info.embedding.width, info.embedding.fingerprint) == (tiny_clip.embed_dim, tiny_clip.image_fingerprint)
    live = list(read_groups(image_shards, tiny_clip.image_transform))
    stored = list(read_groups(options.output))
    for image_group, group in zip(live, stored, strict=True):
        assert (group.key, group.ids, group.captions, group.pairs) == (
            image_group.key,
            image_group.ids,
            image_group.captions,
            image_group.pairs,
        )
        assert image_group.images is not None
        assert group.embeddings is not None
        with torch.no_grad():
            expected = tiny_clip.encode_images(image_group.images)
        torch.testing.assert_close(group.embeddings, expected, atol=1e-3, rtol=0)


def test_workers_do_not_change_the_bytes(options: embed.Options, tmp_path: Path) -> None:
    embed.run(options)
    options.output, options.workers = str(tmp_path / "again"), 2
    embed.run(options)
    for name in ("000000.tar", "000002.tar", "dataset.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "embedded" / name).read_bytes()


def test_interrupted_run_continues_with_the_next_shard(
    options: embed.Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    embed_shard = embed.embed_shard

    def dying(source: Path, folder: Path, model: DifferenceModel, given: embed.Options) -> embed.FinishedShard:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(source.name)
        return embed_shard(source, folder, model, given)

    monkeypatch.setattr(embed, "embed_shard", dying)
    with pytest.raises(KeyboardInterrupt):
        embed.run(options)
    assert not (tmp_path / "embedded").exists()
    done.clear()
    embed.run(options)
    assert done == ["000002.tar"]
    assert sorted(path.name for path in (tmp_path / "embedded").iterdir()) == [
        *(f"00000{index}.tar" for index in range(3)),
        "dataset.json",
    ]
    assert not (tmp_path / "embedded.partial").exists()
    embed.run(options)
    assert "up to date" in capsys.readouterr().out


def test_another_tower_makes_them_anew(options: embed.Options, tiny_config: str, tmp_path: Path) -> None:
    embed.run(options)
    torch.manual_seed(1)
    other = load_clip(tiny_config)
    save_clip(other, tmp_path / "other")
    options.model = f"local-dir:{tmp_path / 'other'}"
    embed.run(options)
    info = DatasetInfo.read(options.output)
    assert info.embedding is not None
    assert info.embedding.fingerprint == other.image_fingerprint


def test_damaged_images_become_nan(options: embed.Options, image_shards: Path, tmp_path: Path) -> None:
    source = DatasetInfo.read(image_shards)
    folder = tmp_path / "damaged"
    folder.mkdir()
    for entry in source.shards:
        payload = bytearray((image_shards / entry.name).read_bytes())
        if entry.name == "000001.tar":
            start = payload.index(b"IDAT")
            payload[start + 4 : start + 40] = bytes(36)
        (folder / entry.name).write_bytes(payload)
    source.write(folder)
    options.shards = str(folder)
    embed.run(options)
    groups = list(read_groups(options.output))
    assert sum(int((~group.intact).sum()) for group in groups) == 1
    (damaged,) = [group for group in groups if not group.intact.all()]
    assert all(damaged.intact[pair["first"]] and damaged.intact[pair["second"]] for pair in damaged.pairs)
    assert json.loads((tmp_path / "embedded.manifest.json").read_text())["counts"]["damaged_images"] == 1


@pytest.fixture
def backbone(options: embed.Options, tmp_path: Path) -> embed.Options:
    """Options with a tiny timm tower whose weights lie in a file of their own, as a pretrained backbone's do."""
    vision = {**TIMM, "timm_model_name": "test_resnet", "timm_proj": "none"}
    config = tmp_path / "tiny_backbone.json"
    config.write_text(json.dumps({"embed_dim": 128, "vision_cfg": vision, "text_cfg": {**TEXT, "width": 128}}))
    torch.manual_seed(3)
    tower = load_clip(str(config)).towers.visual
    save_file({key: value.contiguous() for key, value in tower.state_dict().items()}, tmp_path / "backbone.safetensors")
    options.model, options.image_weights = str(config), str(tmp_path / "backbone.safetensors")
    return options


def test_backbone_weights_and_preprocessing_of_ones_own(
    backbone: embed.Options, image_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone.preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    torch.manual_seed(4)  # nothing of what is written may hang on the random weights of the text tower
    embed.run(backbone)
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
    embed.run(backbone)
    assert "up to date" in capsys.readouterr().out
    backbone.preprocess = {}
    embed.run(backbone)
    after = DatasetInfo.read(backbone.output).embedding
    assert before is not None
    assert after is not None
    assert (before.width, after.width) == (128, 128)
    assert (before.fingerprint != after.fingerprint, after.fingerprint) == (True, model.image_fingerprint)


def test_bad_towers_are_refused(backbone: embed.Options, tmp_path: Path) -> None:
    weights = backbone.image_weights
    backbone.image_weights = None
    with pytest.raises(ValueError, match=r"embed.model: .*tiny_backbone.json comes without weights; give `pretrained`"):
        embed.run(backbone)
    backbone.image_weights = str(tmp_path / "nowhere.safetensors")
    with pytest.raises(FileNotFoundError, match=r"nowhere.safetensors: image tower weights not found"):
        embed.run(backbone)
    backbone.image_weights, backbone.preprocess = weights, {"men": [0.5] * 3}
    with pytest.raises(ValueError, match=r"preprocess: unknown key men; use .*mean"):
        embed.run(backbone)
    assert not Path(backbone.output).exists()


def test_bad_input(options: embed.Options, tmp_path: Path) -> None:
    embed.run(options)
    options.shards, options.output = options.output, str(tmp_path / "twice")
    with pytest.raises(ValueError, match=r"embedded: holds embeddings, not images"):
        embed.run(options)
    options.shards = str(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"nowhere: shard folder not found"):
        embed.run(options)
