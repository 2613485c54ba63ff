"""Embeddings that users already have: a source of training data, a model without image tower, tasks and tools."""

import csv
import json
import re
import shlex
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer
from PIL import Image
from scipy.stats import rankdata, spearmanr
from sklearn.linear_model import RidgeCV

import pcclip
from data_prep.cli import main as pcclip_data
from data_prep.steps.captions import Captions
from data_prep.steps.describe import Describe
from data_prep.steps.pairs import Pairs
from data_prep.steps.shard import Shard
from pcclip.cli import main as pcclip_main
from pcclip.data.datamodule import PairDataModule
from pcclip.data.format import DatasetInfo
from pcclip.data.groups import read_groups
from pcclip.datasets.stored import StoredEmbeddings
from pcclip.metrics.difference_texts import difference_texts
from pcclip.metrics.retrieval import retrieval
from pcclip.model import ClipSource, load_clip, save_clip
from pcclip.model.module import LitDifferenceCLIP
from pcclip.tasks import AttributeRanking, Retrieval, Task, evaluate
from pcclip.tools.export import export
from tests.helpers.models import TEXT, TINY, embedded, gradients, make_batch, make_module
from tests.helpers.pictures import jpeg
from tests.helpers.world import TinyModel, by_name, ranking, shot, write_world

COUNT, WIDTH = 10, 32
ROOT = Path(__file__).parents[1]
REAL_CLIP = ROOT.parent / "shared/data/real_clip"
TOWER = "external:some CLIP"
NO_TOWER = {"layers": 0, "width": 1, "head_width": 1, "patch_size": 1, "image_size": 1}

Table = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows() -> Table:
    return [
        {"key": f"k{i}", "caption": f"a {colour} thing", "size": i, "odd": bool(i % 2)}
        for i, colour in enumerate(["red", "blue", "green", "grey", "pink"] * (COUNT // 5))
    ]


def vectors(count: int = COUNT, width: int = WIDTH) -> Any:
    values = np.random.default_rng(0).normal(size=(count, width))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def write_table(file: str, table: Table) -> None:
    """Write a table in the format of the name's ending."""
    lines = "".join(json.dumps(row) + "\n" for row in table)
    if file.endswith(".jsonl"):
        Path(file).write_text(lines)
    elif file.endswith(".csv"):
        with Path(file).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    else:
        Path("rows.jsonl").write_text(lines)
        duckdb.sql("SELECT * FROM read_json('rows.jsonl')").write_parquet(file)


def write(embeddings: Any = None, table: Table | None = None, ending: str = "jsonl") -> None:
    """Write `img_emb_0.npy` and `metadata_0.*`."""
    np.save("img_emb_0.npy", (vectors() if embeddings is None else embeddings).astype(np.float32))
    write_table(f"metadata_0.{ending}", rows() if table is None else table)


def captions(ending: str = "jsonl", **options: Any) -> Table:
    """Run the step `captions` and return its rows."""
    names: dict[str, Any] = {"input": f"metadata_*.{ending}", "embeddings": "img_emb_*.npy", "image_column": "key"}
    Captions(source="embeddings", output="captions.jsonl", **{**names, **options}).run()
    return [json.loads(line) for line in Path("captions.jsonl").read_text().splitlines()]


def chain(model: str = TOWER, output: str = "shards") -> DatasetInfo:
    """Run the steps from `captions.jsonl` to shards."""
    Pairs(captions="captions.jsonl", output="pairs.jsonl", group_size=4).run()
    Describe(pairs="pairs.jsonl", captions="captions.jsonl", output="d.jsonl", backend="compose").run()
    Shard(captions=["captions.jsonl"], differences=["d.jsonl"], output=output, model=model, workers=0).run()
    return DatasetInfo.read(output)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_from_embeddings_to_shards(ending: str) -> None:
    parts = [(0, 4), (4, 7), (7, COUNT)]
    for number, (start, end) in zip((1, 2, 10), parts, strict=True):  # in the order of numbers, not of names
        np.save(f"img_emb_{number}.npy", 3 * vectors()[start:end].astype(np.float16))
        write_table(f"metadata_{number}.{ending}", rows()[start:end])
    found = captions(ending)
    assert [(row["id"], row["captions"]) for row in found] == [(row["key"], [row["caption"]]) for row in rows()]
    assert [str(row["size"]) for row in found] == [str(i) for i in range(COUNT)]  # other columns are kept
    info = chain()
    assert info.kind == "embeddings"
    assert info.embedding is not None
    assert (info.embedding.model, info.embedding.width) == (TOWER, WIDTH)
    stored = {
        name: row for group in read_groups("shards") for name, row in zip(group.ids, group.embeddings, strict=True)
    }  # type: ignore[arg-type]
    assert len(stored) == COUNT
    for row, vector in zip(rows(), vectors(), strict=True):
        assert np.allclose(stored[row["key"]], vector, atol=2e-3)


def test_a_tower_at_hand_is_fingerprinted(capsys: pytest.CaptureFixture[str]) -> None:
    model = load_clip(str(TINY))
    save_clip(model, "tiny")
    embeddings = vectors()
    embeddings[1] = embeddings[0] + 0.01
    write(embeddings)
    captions()
    info = chain("local-dir:tiny")
    assert info.embedding is not None
    assert info.embedding.fingerprint == model.image_fingerprint
    chain("local-dir:tiny")
    assert "shards is up to date" in capsys.readouterr().out
    similar()  # groups of similar images by their stored embeddings
    pairs = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    assert {frozenset((pair["first"], pair["second"])) for pair in pairs} >= {frozenset(("k0", "k1"))}


def text_only(width: int = WIDTH) -> str:
    """Write the configuration of a tiny model without image tower."""
    Path("text_only.json").write_text(json.dumps({"embed_dim": width, "vision_cfg": NO_TOWER, "text_cfg": TEXT}))
    return "text_only.json"


def test_its_text_tower_trains_like_that_of_a_whole_model() -> None:
    whole, alone = (make_module(["text"], clip, caption_weight=1) for clip in (str(TINY), text_only()))
    weights = {key: value for key, value in whole.model.towers.state_dict().items() if not key.startswith("visual.")}
    assert not alone.model.towers.load_state_dict(weights, strict=False).unexpected_keys
    batch = embedded(whole, make_batch(whole))
    (loss, found), (own_loss, own) = gradients(whole, batch), gradients(alone, batch)
    assert torch.equal(loss, own_loss)
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in found)


def test_model_without_image_tower(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    captions()
    chain()
    module = LitDifferenceCLIP(ClipSource(text_only()), ["all"], caption_weight=1, head="linear")
    assert module.model.image_tower_frozen
    data = PairDataModule(["shards"], ["shards"], groups_per_batch=2, pairs_per_group=4, num_workers=0)
    trainer = Trainer(accelerator="cpu", max_epochs=1, barebones=True)
    trainer.fit(module, data)
    save_clip(module.model, "saved")
    trainer.save_checkpoint("saved.ckpt")
    model = pcclip.load("saved")
    texts = ["the first is red", "the first is blue"]
    for loaded in (model, pcclip.load("saved.ckpt")):
        expected = module.model.eval().encode_texts(texts).detach()
        torch.testing.assert_close(loaded.embed_texts(texts), expected, rtol=0, atol=1e-6)
    ranked = model.rank("img_emb_0.npy", more=texts[0], less=texts[1])
    assert sorted(row.path for row in ranked) == sorted(f"img_emb_0.npy/{i}" for i in range(COUNT))
    direction = (model.embed_texts(texts[:1]) - model.embed_texts(texts[1:]))[0]
    best = int((model.clip.project(torch.tensor(vectors()).float()) @ direction).argmax())
    assert ranked[0].path == f"img_emb_0.npy/{best}"
    examples = model.rank("img_emb_*.npy", high=["img_emb_0.npy/3"], low=["img_emb_0.npy/7"])
    assert {examples[0].path, examples[-1].path} == {"img_emb_0.npy/3", "img_emb_0.npy/7"}
    np.save("long.npy", 2 * vectors())
    with pytest.warns(UserWarning, match=r"long\.npy: 10 of 10"):
        doubled = model.rank("long.npy", more=texts[0], less=texts[1])
    assert [row.score for row in doubled] == pytest.approx([row.score for row in ranked], abs=1e-6)
    with pytest.raises(FileNotFoundError, match=r"img_emb_1\.npy"):
        model.rank("img_emb_0.npy", high=["img_emb_1.npy/0"], low=["img_emb_0.npy/7"])

    write_table("ends.csv", [{"path": "img_emb_0.npy/3", "count": 1}, {"path": "img_emb_0.npy/7", "count": 0}])
    tool("classify img_emb_0.npy --attribute count --examples ends.csv")
    tool("search img_emb_0.npy --image img_emb_0.npy/3 --text red --lambdas [0] --count 1 --overwrite true")
    with Path("out.csv").open(newline="") as stream:
        (found,) = csv.DictReader(stream)
    cosines = vectors() @ vectors()[3]
    assert found["path"] == f"img_emb_0.npy/{cosines.argsort()[-2]}"
    assert float(found["cosine"]) == pytest.approx(np.sort(cosines)[-2], abs=1e-5)

    export(model, Path("exported"), "open_clip")
    assert torch.equal(pcclip.load("exported").embed_texts(texts), model.embed_texts(texts))
    export(model, Path("hf"), "huggingface", text_only=True)

    Path("a.jpg").write_bytes(jpeg(0))
    for needs_pixels in (
        lambda: model.embed("a.jpg"),
        lambda: model.encode_image(torch.zeros(1, 3, 8, 8)),
        lambda: export(model, Path("hf_whole"), "huggingface"),
        lambda: LitDifferenceCLIP(ClipSource(text_only()), ["image"]),
    ):
        with pytest.raises(ValueError, match="no image tower"):
            needs_pixels()


def stored(model: TinyModel, name: str, keys: dict[str, Path], label: str | None = None) -> StoredEmbeddings:
    """Store the embeddings of pictures by their keys, with a table of their folder and brightness."""
    pixels = torch.stack([model.image_transform(Image.open(path).convert("RGB")) for path in keys.values()])
    np.save(f"{name}.npy", model.encode_images(pixels).detach().numpy())
    lines = Path("world/table.csv").read_text().splitlines()
    numbers = {row["image"]: row["brightness"] for row in csv.DictReader(lines)}
    table = [{"id": key, "folder": path.parent.name, "brightness": numbers.get(key)} for key, path in keys.items()]
    write_table(f"{name}.parquet", table)
    return StoredEmbeddings(f"{name}.npy", f"{name}.parquet", label=label)


def test_tasks_take_stored_embeddings() -> None:
    """The numbers are those of the pictures themselves."""
    world = Path("world")
    write_world(world)
    model = TinyModel()
    images = stored(model, "images", {path.name: path for path in sorted((world / "images").iterdir())})
    paths = {f"{path.parent.name}/{path.name}": path for path in sorted((world / "classes").rglob("*.png"))}
    classes = stored(model, "classes", paths, label="folder")
    expected = by_name(evaluate(TinyModel(), [ranking(world), shot(world)], resamples=5))
    encoded = model.encoded
    tasks = [ranking(world, images=images, table=None), shot(world, images=classes)]
    found = by_name(evaluate(model, tasks, resamples=5))
    assert model.encoded == encoded
    assert found.keys() == expected.keys()
    assert [row.value for row in found.values()] == pytest.approx([row.value for row in expected.values()], abs=1e-6)
    assert [row.n for row in found.values()] == [row.n for row in expected.values()]
    dark = replace(classes, where={"folder": "red"})
    assert {image.key.partition("/")[0] for image in dark.read().images} == {"red"}

    values = 2 * np.load("classes.npy")
    values[:2] = np.nan
    np.save("classes.npy", values)
    with (
        pytest.warns(UserWarning, match=r"classes\.npy: 13 of 15 .* unit length"),
        pytest.warns(UserWarning, match="2 of 15 .*blue/0.png"),
    ):
        rows = evaluate(model, [shot(world, images=classes)], resamples=5)
    assert max(row.n for row in rows) == 13


def test_documented_ways_to_measure_a_table() -> None:
    """Run the commands and the tasks of the guide on an array, a table and difference texts."""
    guide = (ROOT / "docs/guides/evaluation.md").read_text().partition("## Stored embeddings")[2].partition("\n## ")[0]
    blocks = re.findall(r"```(\w+)\n(.*?)```", guide, re.DOTALL)
    Path("conf").symlink_to(ROOT / "conf")
    Path("emb").mkdir()
    images = torch.tensor(vectors()).float()
    np.save("emb/img_emb_0.npy", images.numpy())
    keys = [row["key"] for row in rows()]
    table = [{"id": key, "caption": f"a photo of {key}", "size": i, "kind": "ab"[i % 2]} for i, key in enumerate(keys)]
    pairs = [(0, 1), (2, 5), (9, 3)]
    texts, reverses = (
        [f"The first is {word} than the second: {i}, {j}" for i, j in pairs] for word in ("brighter", "darker")
    )
    differences = [
        {"pair_id": f"p{i}", "group": "g", "first": keys[i], "second": keys[j], "text": text, "reverse_text": reverse}
        for (i, j), text, reverse in zip(pairs, texts, reverses, strict=True)
    ]
    write_table("emb/objects.jsonl", table)
    write_table("emb/differences.jsonl", differences)
    for command in "".join(text for kind, text in blocks if kind == "sh").replace("\\\n", "").splitlines():
        name, *arguments = shlex.split(command)
        assert name == "pcclip-data"
        assert pcclip_data(arguments) == 0
    tasks = [task for kind, text in blocks if kind == "yaml" for task in yaml.safe_load(text)]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--tasks", type=list[Task])
    torch.manual_seed(0)
    model, own = load_clip(text_only()).eval(), [[row["caption"]] for row in table]
    found = evaluate(model, parser.instantiate_classes(parser.parse_object({"tasks": tasks})).tasks, resamples=5)
    kinds = {kind: [row for row in found if row.task == kind] for kind in dict.fromkeys(row.task for row in found)}
    assert list(kinds) == ["attribute_ranking", "zero_shot", "retrieval", "difference_texts"]
    first, second = torch.tensor(pairs).T
    expected = {
        "retrieval": retrieval(model, images, own),
        "difference_texts": difference_texts(model, images, first, second, texts, reverses, captions=own),
    }
    for kind, metrics in expected.items():
        assert [(row.metric, row.n) for row in kinds[kind]] == [(metric.name, metric.n) for metric in metrics]
        values = [metric.value for metric in metrics]
        assert [row.value for row in kinds[kind]] == pytest.approx(values, abs=1e-6, nan_ok=True)


def ranked(
    words: str = "big\nlittle\n", more: str = "big", axes: Any = ((1, 0), (0, 1)), width: int = 8, **options: Any
) -> dict[str, float]:
    """Rank ten embeddings by their size, with a ceiling fitted on twenty others and an axis of stored texts."""
    for name, seed, count in (("measured", 0, 10), ("others", 1, 20)):
        values = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
        np.save(f"{name}.npy", values / np.linalg.norm(values, axis=1, keepdims=True))
        write_table(f"{name}.jsonl", [{"id": f"{name}{i}", "size": float(row[0])} for i, row in enumerate(values)])
    np.save("words.npy", np.pad(np.array(axes, float), ((0, 0), (0, width - 2))))
    Path("words.txt").write_text(words)
    texts = {"wordings": [{"text": "red", "reverse": "blue"}]}
    texts |= {"stored": [{"more": more, "less": "little"}]} if more else {}
    Path("texts.yaml").write_text(json.dumps({"size": texts}))
    given: dict[str, Any] = {
        "images": StoredEmbeddings("measured.npy", "measured.jsonl"),
        "texts": "texts.yaml",
        "ceiling": True,
        "ceiling_images": StoredEmbeddings("others.npy", "others.jsonl"),
        "stored_texts": "words.npy",
    }
    tasks = [AttributeRanking(name="objects", **{**given, **options})]
    return {row.metric: row.value for row in evaluate(TinyModel(), tasks, resamples=5)}


def test_ranking_by_stored_texts_and_by_a_ceiling_from_other_images() -> None:
    found = ranked()
    (images, sizes), (others, known) = (
        (np.load(f"{name}.npy"), [json.loads(line)["size"] for line in Path(f"{name}.jsonl").read_text().splitlines()])
        for name in ("measured", "others")
    )
    assert found["stored_spearman"] == pytest.approx(spearmanr(images[:, 0] - images[:, 1], sizes)[0], abs=1e-6)
    ridge = RidgeCV(alphas=np.logspace(-5, 3, 17)).fit(others, rankdata(known))
    assert found["ceiling_spearman"] == pytest.approx(spearmanr(ridge.predict(images), sizes)[0], abs=1e-6)
    assert found["share_of_ceiling"] == pytest.approx(found["spearman"] / found["ceiling_spearman"], abs=1e-6)
    for wrong, named in (
        ({"words": "big\n"}, r"words\.npy.*2.*1"),
        ({"more": "huge"}, r"texts\.yaml.*words\.npy.*huge"),
        ({"axes": ((np.nan, 0), (0, 1))}, r"words\.npy.*big"),
        ({"axes": ((1, 0), (0, 1), (1, 1)), "words": "big\nlittle\nbig\n"}, r"words\.npy.*big"),
        ({"more": ""}, r"texts\.yaml.*stored"),
        ({"width": 5}, r"words\.npy.*5.*8"),
        ({"ceiling": False}, "objects.*ceiling_images"),
    ):
        with pytest.raises(ValueError, match=named):
            ranked(**wrong)  # type: ignore[arg-type]


def fit(width: int, *shards: str) -> None:
    """Set up training of a model without image tower on shards."""
    data = PairDataModule(list(shards), groups_per_batch=1, pairs_per_group=2, num_workers=0)
    Trainer(accelerator="cpu", max_steps=1, barebones=True).fit(
        LitDifferenceCLIP(ClipSource(text_only(width)), ["all"]), data
    )


def two_towers() -> None:
    write()
    captions()
    chain()
    chain("external:another CLIP", "others")
    fit(WIDTH, "shards", "others")


def other_width() -> None:
    write()
    np.save("img_emb_1.npy", vectors(COUNT, WIDTH // 2))
    captions()


def prepared(step: Callable[[], Any], embeddings: Any = None) -> Callable[[], None]:
    """Write embeddings and their captions rows, then call a step."""

    def run() -> None:
        write(embeddings)
        captions()
        step()

    return run


def shard(**options: Any) -> Shard:
    return Shard(captions=["captions.jsonl"], output="shards", unpaired=True, workers=0, **options)


def narrow_for_its_tower() -> None:
    save_clip(load_clip(str(TINY)), "tiny")
    shard(model="local-dir:tiny").run()


def pictures_with_a_model() -> None:
    Path("a.jpg").write_bytes(jpeg(0))
    Path("captions.jsonl").write_text(json.dumps({"id": "a", "file": "a.jpg", "captions": ["a"]}))
    shard(model=TOWER).run()


def measured(table: Table, width: int = 8) -> None:
    np.save("e.npy", vectors(COUNT, width))
    write_table("e.jsonl", table)
    evaluate(TinyModel(), [shot(Path(), images=StoredEmbeddings("e.npy", "e.jsonl", key="key", label="odd"))])


def measured_shards() -> None:
    write()
    captions()
    chain()
    evaluate(TinyModel(), [Retrieval(name="set", shards="shards")])


def unknown_id() -> None:
    row = {"pair_id": "p", "group": "g", "first": "k1", "second": "k99", "text": "a", "reverse_text": "b"}
    write_table("d.jsonl", [row])
    shard(model=TOWER, differences=["d.jsonl"]).run()


def ranked_by_examples(width: int, low: int = 1) -> None:
    """Rank by two examples, with a model of another or the same width."""
    write()
    save_clip(load_clip(text_only(width)), "model")
    pcclip.load("model").rank("img_emb_0.npy", high=["img_emb_0.npy/0"], low=[f"img_emb_0.npy/{low}"])


def tool(words: str) -> None:
    """Run a command on stored embeddings; raise what it says."""
    write()
    save_clip(load_clip(text_only()), "model")
    errors = StringIO()
    with redirect_stderr(errors):
        code = pcclip_main([*words.split(), "--model", "model", "--output", "out.csv", "--cache", "null"])
    if code:
        raise ValueError(errors.getvalue().strip())


def in_memory() -> None:
    save_clip(load_clip(text_only()), "model")
    pcclip.load("model").embed(vectors())


def similar() -> None:
    Pairs(
        captions="captions.jsonl",
        output="pairs.jsonl",
        group_size=2,
        dealing="similar",
        similar_by="images",
        model="local-dir:tiny",
    ).run()


def with_images() -> None:
    options: dict[str, Any] = {"with_images": True, "prompt": "difference_images", "backend": "openai"}
    Describe(pairs="pairs.jsonl", captions="captions.jsonl", output="d.jsonl", model="m", **options).run()


def changed() -> None:
    write(vectors()[::-1])
    shard(model=TOWER).run()


# What is done, and what the message must name
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no such file": (lambda: (write(), captions(embeddings="e_*.npy")), r"e_\*\.npy"),
    "no array": (lambda: (write(), Path("img_emb_0.npy").write_text("text"), captions()), r"img_emb_0\.npy"),
    "pickled objects": (lambda: (write(), np.save("img_emb_0.npy", np.array([{}])), captions()), r"img_emb_0\.npy"),
    "one dimension": (lambda: (write(), np.save("img_emb_0.npy", np.zeros(3)), captions()), r"img_emb_0\.npy.*\(3,\)"),
    "files of two widths": (other_width, r"img_emb_1\.npy: .*16.*img_emb_0\.npy.*32"),
    "more embeddings than rows": (lambda: (write(table=rows()[1:]), captions()), r"metadata_0.*9 rows.*10.*img_emb_0"),
    "more rows than embeddings": (lambda: (write(vectors(8)), captions()), r"metadata_0.*10 rows.*8.*img_emb_0"),
    "no such column": (
        lambda: (write(ending="parquet"), captions("parquet", caption_column="text")), r"metadata_0\.parquet.*'text'.*caption",
    ),
    "a row without captions": (
        lambda: (write(table=[*rows()[:-1], {"key": "k9"}]), captions()), r"metadata_0\.jsonl, row 9: .*`caption_column`",
    ),
    "no id": (lambda: (write(), captions(image_column="image")), r"metadata_0\.jsonl.*'image'.*key"),
    "no Parquet file": (
        lambda: (write(), Path("metadata_0.parquet").write_text("text"), captions("parquet")), r"metadata_0\.parquet"
    ),
    "no table": (lambda: (write(), Path("metadata_0.txt").touch(), captions("txt")), r"metadata_0\.txt.*\.parquet"),
    "bad line": (lambda: (write(), Path("metadata_0.jsonl").write_text("{"), captions()), r"metadata_0\.jsonl, line 1"),
    "no embeddings": (lambda: (write(), captions(embeddings=None)), r"captions\.embeddings"),
    "unnamed tower": (prepared(lambda: shard().run()), r"shard\.model.*external:"),
    "tower without weights": (prepared(lambda: shard(model="ViT-B-32").run()), r"shard\.model.*ViT-B-32"),
    "tower without a label": (prepared(lambda: shard(model="external:").run()), r"shard\.model.*LABEL"),
    "external weights": (prepared(lambda: shard(model=TOWER, pretrained="x").run()), r"shard\.pretrained"),
    "tower of another width": (prepared(narrow_for_its_tower, vectors(COUNT, 16)), "width 16.*local-dir:tiny.*width 32"),
    "pictures with a tower": (pictures_with_a_model, r"shard\.model.*captions\.jsonl"),
    "changed embeddings": (prepared(changed), "img_emb_0"),
    "pixels": (
        prepared(lambda: (Pairs(captions="captions.jsonl", output="pairs.jsonl").run(), with_images())),
        "describe.with_images.*'k.'.*captions.jsonl",
    ),
    "similar by a tower of another width": (
        prepared(lambda: (save_clip(load_clip(str(TINY)), "tiny"), similar()), vectors(COUNT, 16)), "img_emb_0.*16.*32"
    ),
    "model of another width": (prepared(lambda: (chain(), fit(16, "shards"))), "shards.*width 32.*some CLIP.*16"),
    "two towers": (two_towers, "shards by external:some CLIP, others by external:another CLIP"),
    "task: another width": (lambda: measured(rows(), 7), r"e\.npy.*7.*8"),
    "task: shards of another width": (measured_shards, "shards: .*32.*8"),
    "differences of an unknown id": (prepared(unknown_id), r"d\.jsonl, line 1: .*'k99'"),
    "rank: another width": (lambda: ranked_by_examples(16), r"img_emb_0\.npy.*32.*16"),
    "rank: no such row": (lambda: ranked_by_examples(WIDTH, COUNT), rf"img_emb_0\.npy.*{COUNT}.*{COUNT - 1}"),
    "search: no such row": (lambda: tool("search img_emb_0.npy --image img_emb_0.npy/99 --text red"), r"img_emb_0\.npy.*99"),
    "search: no such file": (lambda: tool("search img_emb_0.npy --image e.npy/0 --text red"), r"e\.npy"),
    "classify: no picture to copy": (
        lambda: tool("classify img_emb_0.npy --attribute count --threshold 0 --split s"), r"--split s: img_emb_0\.npy/0",
    ),
    "rank: an array in memory": (lambda: in_memory(), "ndarray.*npy"),
    "rank: equal examples": (lambda: ranked_by_examples(WIDTH, 0), "high.*low"),
    "task: an id twice": (lambda: measured([*rows()[1:], rows()[1]]), r"e\.jsonl.*k1"),
    "task: more embeddings than rows": (lambda: measured(rows()[1:]), r"e\.jsonl.*9.*e\.npy.*10"),
    "task: no such column": (lambda: measured([{"key": row["key"]} for row in rows()]), r"e\.jsonl.*odd"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_line(case: str) -> None:
    run, message = REFUSED[case]
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        run()
    assert "\n" not in str(error.value)


def test_bad_rows_are_left_out_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    embeddings, table = vectors(), rows()
    embeddings[0, 3] = np.nan
    embeddings[1] = np.inf
    embeddings[2] = 0
    embeddings[3] = embeddings[4]
    embeddings[5:7] *= 2
    table[8]["key"] = table[7]["key"]
    table[6]["key"] = None
    table[9]["caption"] = " "
    write(embeddings, table)
    assert [row["id"] for row in captions()] == ["k3", "k5", "k7"]
    counts = json.loads(Path("captions.jsonl.manifest.json").read_text())["counts"]
    assert counts == {
        "images": 3, "without_id": 1, "not_finite": 2, "zero": 1, "duplicate": 1, "duplicate_id": 1, "without_caption": 1
    }  # fmt: skip
    said = [line for line in capsys.readouterr().out.splitlines() if "unit length" in line]
    assert len(said) == 1
    assert "2 embeddings" in said[0]
    shard(model=TOWER).run()
    group = next(read_groups("shards"))
    assert group.embeddings is not None
    assert torch.allclose(group.embeddings.norm(dim=1), torch.ones(3))


@pytest.mark.skipif(not REAL_CLIP.is_dir(), reason="needs the embeddings of real_clip")
def test_real_clip() -> None:
    Captions(
        source="embeddings",
        input=str(REAL_CLIP / "objects.jsonl"),
        embeddings=str(REAL_CLIP / "images.npy"),
        output="captions.jsonl",
    ).run()
    shard = Shard(
        captions=["captions.jsonl"],
        differences=[str(REAL_CLIP / "differences.jsonl")],
        output="shards",
        model="external:openai/clip-vit-base-patch32",
        unpaired=True,
        workers=0,
    )
    shard.run()
    info = DatasetInfo.read("shards")
    assert info.pairs == 2220
    images = np.load(REAL_CLIP / "images.npy")
    names = [json.loads(line)["id"] for line in (REAL_CLIP / "objects.jsonl").read_text().splitlines()]
    stored = {
        name: row for group in read_groups("shards") for name, row in zip(group.ids, group.embeddings, strict=True)
    }  # type: ignore[arg-type]
    assert stored.keys() == set(names)
    assert max(np.abs(stored[name].numpy() - row).max() for name, row in zip(names, images, strict=True)) < 1e-3
