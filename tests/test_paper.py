"""`make paper`: from miniature official files and a local endpoint to the page, and again without doing anything twice."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import yaml

from data_prep.steps.describe import compose
from pcclip.experiments.__main__ import main
from pcclip.experiments.paper import operations
from pcclip.model import load_clip, save_clip
from tests.helpers.fault_server import FaultServer, running_server
from tests.helpers.official_trees import write_birds, write_pipeline
from tests.test_eval_configurations import RUNS as CONFIGURATIONS
from tests.test_eval_configurations import tasks

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT.parent / "shared" / "data" / "coco_mini"
TINY = ROOT / "tests" / "helpers" / "tiny.json"
RUNS = Path("runs/local-dir_clip_null/paper")
CELLS = ("as in the paper", "rewritten captions only")
EXPECTED = (
    ("difference classification", "CUB"), ("zero-shot", "CUB"), ("extended prompts", "CUB"),
    ("CLIPScore of generated images", "Stable Diffusion"),
)  # fmt: skip
VARIABLES = {
    "DATA": "official",
    "MODEL": "local-dir:clip",
    "PRETRAINED": "null",
    "SETS": "cub generation",
    "SEEDS": "0",
    "CELLS": ", ".join(CELLS),
    "COCO_ARGS": "--thousand_pairs.images 20 --workers 0",
    "CUB_ARGS": "--workers 0",
    "SETTINGS": "trainer.max_epochs: 1, trainer.accelerator: cpu, trainer.precision: 32-true, data.num_workers: 0, "
    "data.groups_per_batch: 1, model.optimizer.init_args.lr: 1.0e-2",
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's configurations, but CUB's 312 attributes, which take too long here, and fewer images."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for file in [*(ROOT / "conf").iterdir(), *(ROOT / "conf/eval").iterdir()]:
        if file.name not in ("eval", "cub.yaml", "generation.yaml"):
            link = tmp_path / file.relative_to(ROOT)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    generation = (ROOT / "conf/eval/generation.yaml").read_text()
    short = generation.replace("[0, 1, 2, 3, 4, 5, 6, 7]", "[0]").replace("steps: 30", "steps: 1")
    (tmp_path / "conf/eval/generation.yaml").write_text(short)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(**variables: str) -> str:
    """Run `make paper` with this environment in place of one of its own, and return what it printed."""
    words = [f"{name}={value}" for name, value in (VARIABLES | variables).items()]
    command = ["make", "-f", str(ROOT / "Makefile"), "-o", ".venv/ready", f"BIN={Path(sys.executable).parent}", "paper"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def answer(server: FaultServer, question: str) -> None:
    """Let the server answer a question about two images in a way that passes the screening."""
    first, second_follows, second = question.partition("\n\nCaptions of the second image:\n")
    server.faults.content = ""
    if second_follows:
        rows = [{"captions": captions.splitlines()} for captions in (first.partition("\n")[2], second)]
        text, reverse = compose(0, question, *rows)
        server.faults.content = json.dumps({"text": text, "reverse_text": reverse})


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no COCO sample at {SAMPLE}")
def test_from_official_files_to_the_page(project: Path) -> None:
    (project / "official").mkdir()
    (project / "official/coco").symlink_to(SAMPLE)
    write_birds(project / "official")
    generates = find_spec("diffusers") is not None  # there is none for Python 3.10
    if generates:
        write_pipeline(project / "official/stable_diffusion")
    save_clip(load_clip(str(TINY)), "clip")
    with running_server() as server:
        server.on_question = lambda question: answer(server, question)
        make(ENDPOINT=server.url)
        asked = server.asked.total()
        assert asked > 300
        made = times(RUNS)
        again = make(ENDPOINT=server.url, STAGES="data train evaluate page")
        assert server.asked.total() == asked
    assert again.count("is up to date") > 20
    assert {file for file, time in times(RUNS).items() if time != made.get(file)} <= {
        "paper.md", "training.md", "images/ablations_paper_cells.png"
    }  # fmt: skip
    page = (RUNS / "paper.md").read_text()
    assert page.count("| experiment | set |") == 4  # two protocols, finetuned and ensembled
    rows = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in page.splitlines() if line[:1] == "|"]
    for measured, dataset in EXPECTED if generates else EXPECTED[:-1]:
        first = next(row for row in rows if row[:2] == [measured, dataset])
        assert all(0 <= float(value) <= 1 for value in first[5:]), first
        assert len(first[5:]) == 1 + len(CELLS)
    assert next(row for row in rows if row[:2] == ["difference classification", "CUB"])[3:5] == ["0.533", "0.676"]
    for cell in ("as_in_the_paper", "rewritten_captions_only"):
        for name in ("texts_cub", *(["generation_generation"] if generates else [])):
            results = json.loads((RUNS / f"{cell}-0/eval/{name}.json").read_text())
            assert {row["model"] for row in results} == {"finetuned", "ensembled 0.5"}


STAND_IN = """#!/bin/bash
while [[ $1 != --trainer.callbacks.init_args.file ]]; do [[ $1 == --model.clip.name ]] && model=$2; shift; done
mkdir -p "$(dirname "$2")"
[[ $model == "local-dir:other" ]] && value=0.75 || value=0.5
echo "[{\\"model\\": \\"base\\", \\"task\\": \\"zero_shot\\", \\"subset\\": \\"cub_single\\", \\"metric\\": \\"top1\\", " \
  "\\"value\\": $value, \\"n\\": 4, \\"low\\": 0, \\"high\\": 1}]" > "$2"
"""


def test_models_have_folders_of_their_own(project: Path) -> None:
    """With stand-ins for `pcclip test`, which finds 0.75 for one model and 0.5 for the others, and for the page's program."""
    programs = project / "bin"
    programs.mkdir()
    keep_words = f"#!/bin/bash\nprintf '%s\\n' \"$@\" > {project}/words\n"
    for name, text in {"pcclip": STAND_IN, "python": keep_words}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    row = {"task": "zero_shot", "subset": "cub_single", "metric": "top1", "n": 4, "low": 0, "high": 1}
    settings = {"SEEDS": "9", "CELLS": CELLS[0], "BIN": str(programs), "STAGES": "evaluate page"}
    for model, value, numbers in (("clip", 0.25, "0.500 | 0.250"), ("other", 0.35, "0.750 | 0.350")):
        run = project / f"runs/local-dir_{model}_null/paper/as_in_the_paper-0"
        run.mkdir(parents=True)
        (run / "cell.json").write_text("{}")
        (run / "results.json").write_text(json.dumps([{"model": "finetuned", **row, "value": value}]))
        assert "generated images are left out" in make(**settings, MODEL=f"local-dir:{model}")
        python, module, *words = (project / "words").read_text().splitlines()
        assert (python, module, main(words)) == ("-m", "pcclip.experiments", 0)
        assert f"| zero-shot | CUB | - | 0.817 | 0.801 | {numbers} |" in (run.parent / "paper.md").read_text()
    assert "moved to" not in make(**settings)


def times(folder: Path) -> dict[str, int]:
    """Return when each file of a folder was written."""
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_what_is_missing_is_named_and_what_is_there_is_linked(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("coco/annotations", "coco/train2017", "coco/val2017", "torchvision/eurosat"):
        (project / "official" / name).mkdir(parents=True)
    assert main(["paper_files", "[coco, eurosat, awa2]", "--data", "official"]) == 2
    error = capsys.readouterr().err
    assert "AwA2-data.zip" in error
    assert "13 GB" in error
    assert "train2017" not in error
    assert main(["paper_files", "[coco, eurosat, generation]", "--data", "official"]) == 0
    assert "stable_diffusion" in capsys.readouterr().out  # optional
    assert Path("data/coco/train2017").resolve() == project / "official/coco/train2017"
    assert main(["paper_files", "[coco, eurosat]"]) == 0  # they are in `data` now
    assert main(["paper_files", "[cocoa]"]) == 2


def test_the_plan_counts_requests_cost_and_hours(capsys: pytest.CaptureFixture[str]) -> None:
    every = "[coco, awa2, cifar100, cub, eurosat, flowers102, sun397]"
    assert main(["paper_plan", "ViT-L-14", every, "--seeds", "2", "--prices", "[1, 2]", "--tflops", "1000"]) == 0
    printed = capsys.readouterr().out
    total = next(line for line in printed.splitlines() if line.startswith("| all"))
    requests, prompts, answers, cost, endpoint, _ = (float(x.replace(",", "")) for x in total.split("|")[4:-1])
    assert requests == pd.read_csv("conf/paper/stages.csv")["requests"].sum()
    assert cost == pytest.approx(prompts + 2 * answers, abs=0.02)
    assert endpoint == pytest.approx(requests / 20 / 3600, abs=0.01)
    assert "train2017.zip" in printed  # missing
    per_image, per_text = operations("ViT-L-14")
    assert per_image == pytest.approx(162e9, rel=0.06)  # open_clip's own count, attention included
    assert per_text == 24 * 12 * 768**2 * 34


def test_tables_name_what_exists() -> None:
    """Metrics of tasks in conf/eval, cells of conf/ablations.yaml."""
    numbers = pd.read_csv("conf/paper/numbers.csv")
    names = {task["name"] for run in CONFIGURATIONS for _, task in tasks(run)} | {"coco"}
    for metric in pd.concat([numbers["metric"], numbers["corrected"]]).dropna():
        assert metric.split("/")[1] in names, metric
    cells = yaml.safe_load((ROOT / "conf/ablations.yaml").read_text())["paper"]["cells"]
    stages = pd.read_csv("conf/paper/stages.csv")
    assert set(stages.loc[stages["stage"] == "train", "what"]) <= set(cells)
    files = set(pd.read_csv("conf/paper/files.csv")["set"])
    assert set(stages["set"]) - {"seed"} == files
    assert os.access(ROOT / "docs/paper.sh", os.X_OK)
