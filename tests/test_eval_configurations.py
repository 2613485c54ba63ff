"""Every configuration of conf/eval runs on a tiny tree in its dataset's official layout, and its table has what it asks for.

Those of the embedded world are run by test_small_demo.
"""

import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from data_prep.cli import main as pcclip_data
from pcclip.callbacks import Evaluation
from pcclip.cli import main as pcclip
from pcclip.datasets.texts import read_texts
from pcclip.model import DifferenceCLIP, load_clip, save_clip
from pcclip.model.text_to_image import generate
from pcclip.tasks import Evaluator
from pcclip.tasks.classes import ENSEMBLES
from tests.helpers.fault_server import running_server
from tests.helpers.official_trees import SUGARCREPE_FILES, TREES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[1]
EVAL = ROOT / "conf" / "eval"
CLASSES = ("cifar10", "imagenet", "sun397")  # datasets that have no configuration of their own
WITH_TEXTS = [*CLASSES, "cifar100", "cub", "dtd", "eurosat", "flowers102", "food101", "pets"]
PARTS = ("demo", "table", "trainer", "model", "zero_shot", "texts")
OWN = sorted(path.stem for path in EVAL.glob("*.yaml") if path.stem not in PARTS)
# Name to configuration and dataset
RUNS = {name: (name, name) for name in OWN}
RUNS |= {name: ("zero_shot", name) for name in CLASSES}
RUNS |= {f"{name}_texts": ("texts", name) for name in WITH_TEXTS}
NAMES = sorted(RUNS)
TINY = ROOT / "tests" / "helpers" / "tiny.json"
Rows = list[dict[str, Any]]
WITH_CEILING = {("ceiling_spearman", None), ("share_of_ceiling", None)}
FEW_CLASSES = ("attribute_ranking", "flowers102/purple")  # fewer than a ceiling needs
# Of a ceiling that is not positive there is no share, and one that is too low has a share of any size
UNBOUNDED = {"share_of_ceiling": float("inf"), "spearman_over_prompts": 2.0, "clip_score": 2.5}


def run(name: str, *arguments: str, clip: str = str(TINY), code: int = 0) -> None:
    """`pcclip test` with a configuration and a model of random weights, in the present folder."""
    file, dataset = RUNS[name]
    chosen = [] if file == dataset else ["--set", dataset]
    model = [f"--model.clip.name={clip}", "--model.clip.pretrained=null"]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    assert pcclip(["test", "--config", f"conf/eval/{file}.yaml", *chosen, *model, *quiet, *arguments]) == code


def tasks(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Class and settings of a configuration's tasks."""
    file, dataset = RUNS[name]

    def read(part: str) -> Any:
        return yaml.safe_load((EVAL / part).read_text().replace("${set}", dataset))

    listed = [read(each) if isinstance(each, str) else each for each in read(f"{file}.yaml")["tasks"]]
    return [(each["class_path"].rpartition(".")[2], each["init_args"]) for each in listed]


def prepare(name: str) -> None:
    """Make what a configuration reads, as its first lines say, unless it has been made for another."""
    family, _, part = name.partition("_")
    make_tree(Path.cwd(), family)
    if part == "differences":
        assert pcclip_data(["all", "--config", f"conf/data/{family}.yaml", "--backend=compose", "--workers=1"]) == 0
    if part == "texts":
        save_clip(load_clip(str(TINY)), "base")
        with running_server() as server:
            writer = ["--kind", "things", "--model", "m", "--base_url", server.url]
            base = ["--clip", "local-dir:base", "--pretrained", "null"]
            assert pcclip_data(["all", "--config", "conf/data/class_texts.yaml", "--set", family, *writer, *base]) == 0


@cache
def make_tree(folder: Path, family: str) -> None:
    """Make the pictures of a family of configurations, once in each folder."""
    TREES[family](folder / "data")


@pytest.fixture(scope="module", autouse=True)
def _without_hashes_and_in_short() -> Iterator[None]:
    # torchvision knows CIFAR's and the flowers' files by their hashes; that they are there is still checked
    def is_file(file: str, md5: str | None = None) -> bool:
        return Path(file).is_file()

    with pytest.MonkeyPatch.context() as patch:
        for module in ("cifar", "flowers102"):
            patch.setattr(f"torchvision.datasets.{module}.check_integrity", is_file)
        # What takes long and is tested elsewhere: Lightning's log of CUB's 10,000 values, resamples, 80 templates, workers, the
        # search for the best regularisation of each probe and ceiling, and most of the generated images
        patch.setattr(Evaluation, "_logged", lambda _: {})
        few = {"resamples": 10, "num_workers": 0}
        patch.setattr("pcclip.callbacks.evaluation.Evaluator", lambda tasks, **own: Evaluator(tasks, **own | few))
        patch.setitem(ENSEMBLES, "openai", ENSEMBLES["openai"][:2])
        patch.setattr("pcclip.metrics.ceiling._PENALTIES", np.ones(1))
        patch.setattr("pcclip.metrics.linear_probe.best_regularisation", lambda *_: 1.0)
        short = {"seeds": [0], "steps": 1}
        patch.setattr("pcclip.tasks.generation.generate", lambda *args, **kwargs: generate(*args, **kwargs | short))
        yield


def linked(folder: Path) -> Path:
    """A folder with the project's conf."""
    (folder / "conf").symlink_to(ROOT / "conf")
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all configurations run, as they do in the project's: with one `data` and one cache."""
    return linked(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize("name", NAMES)
def test_configuration_runs(name: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    prepare(name)
    run(name)
    file, dataset = RUNS[name]
    rows = json.loads(Path(f"runs/eval/{dataset}{'_texts' if file == 'texts' else ''}.json").read_text())
    check(rows, tasks(name))


def check(rows: Rows, settings: list[tuple[str, dict[str, Any]]]) -> None:
    """The table has a row of the base model for all that is asked for, and nothing impossible in it."""
    assert {row["model"] for row in rows} == {"base"}
    expected = {pair: metrics for kind, own in settings for pair, metrics in wanted(kind, own).items()}
    found: dict[tuple[str, str], set[tuple[str, float | None]]] = {}
    for row in rows:
        found.setdefault((row["task"], row["subset"]), set()).add((row["metric"], row["factor"]))
    assert set(found) == set(expected)
    missing = {pair: metrics - found[pair] for pair, metrics in expected.items() if metrics - found[pair]}
    assert missing.pop(FEW_CLASSES, WITH_CEILING) == WITH_CEILING
    assert not missing
    for row in rows:
        bound = UNBOUNDED.get(row["metric"], 1.0)
        if row["value"] is None:
            assert row["metric"] == "share_of_ceiling", row
        else:
            assert -bound <= row["value"] <= bound, row
        assert row["n"] > 0, row


def wanted(kind: str, settings: dict[str, Any]) -> dict[tuple[str, str], set[tuple[str, float | None]]]:
    """Task and subset to metrics (with factors) that a task must write, by its settings."""
    name = settings["name"]

    def plain(*names: str) -> set[tuple[str, float | None]]:
        return {(metric, None) for metric in names}

    def over(factors: list[float], *names: str) -> set[tuple[str, float | None]]:
        return {(metric, factor) for metric in names for factor in factors}

    if kind == "ZeroShot":
        return {("zero_shot", name): plain("top1", "top5", "mean_per_class")}
    if kind == "AttributeRanking":
        return {("attribute_ranking", f"{name}/{one}"): plain(*ranking(settings)) for one in attributes(settings)}
    if kind == "LinearProbe":
        return {("linear_probe", name): plain("top1_full") | over(settings["shots"], "top1_shots")}
    if kind == "ComparativePrompting":
        metrics = plain("top1_plain") | over(settings["alphas"], "top1_texts", "gain_over_reversed")
        parts = {("comparative_prompting", f"{name}/{part}"): metrics for part in ("all", "confused")}
        return parts | {("comparative_prompting", f"{name}/texts"): plain("cosine_text", "forced_choice")}
    if kind == "Compositionality":
        return {("compositionality", f"{name}/{stem}"): plain("accuracy") for stem in SUGARCREPE_FILES}
    if kind == "DifferenceTexts":
        return {("difference_texts", name): plain("forced_choice", "role_test", "caption_forced_choice")}
    if kind == "Generation":
        return {("generation", name): plain("clip_score", "forced_choice")}
    if kind == "KarpathyRetrieval":
        return {("retrieval", name): plain("text_to_image_recall1", "image_to_text_recall1")}
    assert kind == "Simat"
    moves = over(settings["lambdas"], "recall1", "difference_recall1")
    return {("arithmetic", name): plain("target_recall1") | moves}


def attributes(settings: dict[str, Any]) -> list[str]:
    """The attributes of a task."""
    return list(settings.get("attributes", read_texts(ROOT / settings["texts"])))


def ranking(settings: dict[str, Any]) -> set[str]:
    """What is measured of each attribute; all of conf/eval/texts have prompts."""
    metrics = {"sign_accuracy", "forced_choice", "role_test", "spearman", "prompt_spearman", "spearman_over_prompts"}
    metrics |= {"sign_accuracy_paper"} if "images_per_draw" in settings else set()
    return metrics | ({"ceiling_spearman", "share_of_ceiling"} if settings.get("ceiling") else set())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_named_with_a_remedy(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(linked(tmp_path))
    refused(name)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("coco", "data/karpathy/dataset_coco.json"),
        ("coco", "data/coco2014"),
        ("coco", "data/coco/val2017"),
        ("coco", "data/sugarcrepe"),
        ("flickr", "data/flickr8k/images"),
        ("flickr", "data/karpathy/dataset_flickr30k.json"),
        ("eurosat_texts", "data/eval/eurosat/descriptions.jsonl"),
        ("eurosat_texts", "data/eval/eurosat/comparatives.jsonl"),
    ],
)
def test_each_of_several_parts_is_missed(name: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(linked(tmp_path))
    prepare(name)
    Path(part).rename("elsewhere")
    assert refused(name) == part


def refused(name: str) -> str:
    """What a configuration misses here: the place that begins its message, which must also say how to come by it."""
    with redirect_stderr(io.StringIO()) as stream:
        run(name, code=2)
    found = re.search(
        r"error: (data/[\w./]+): .*(download|github\.com|pcclip-data|give a folder|check)", stream.getvalue()
    )
    assert found, stream.getvalue()
    return found[1]


def test_a_second_model_has_a_column_of_its_own_and_encodes_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(linked(tmp_path))
    make_tree(tmp_path, "cifar10")
    encoded = []
    encode = DifferenceCLIP.encode_images

    def counted(model: DifferenceCLIP, images: Tensor) -> Tensor:
        encoded.append(len(images))
        return encode(model, images)

    monkeypatch.setattr(DifferenceCLIP, "encode_images", counted)
    model = load_clip(str(TINY))
    save_clip(model, "base")
    run("cifar10", clip="local-dir:base")
    assert sum(encoded) == 20  # once for both of its sets
    with torch.no_grad():  # as after finetuning: another text tower, the same image tower
        model.towers.token_embedding.weight.normal_()
    save_clip(model, "mine")
    run("cifar10", "--trainer.callbacks.init_args.base=mine", clip="local-dir:mine")
    assert sum(encoded) == 20
    rows = json.loads(Path("runs/eval/cifar10.json").read_text())
    names = {model: [row["subset"] for row in rows if row["model"] == model] for model in ("base", "mine")}
    assert len(rows) == 2 * len(names["base"])
    assert names["base"] == names["mine"]
    values = {model: [row["value"] for row in rows if row["model"] == model] for model in names}
    assert values["base"] != values["mine"]
