"""`make train` in small: its commands one after the other, then the commands of README and docs on what they leave behind."""

import json
from pathlib import Path

import open_clip
import pytest

from tests import golden
from tests.helpers.programs import run, run_script
from tests.test_readme import BLOCKS, COMMANDS, ROOT, commands

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SMALL_WORLD = ["--shapes.train=128", "--shapes.val=64", "--shapes.test=24", "--shapes.per_class=2"]
SHORT = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--data.groups_per_batch=2"]


def make_demo(folder: Path) -> None:
    """Make the demo in an empty folder, with less data and one epoch a stage."""
    for name in ("conf", "README.md"):
        (folder / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("pcclip-data", "all", "--config", "conf/data/demo.yaml", *SMALL_WORLD)
        of_demo = ["--data.train=[data/demo/shards/train]", "--data.val=[data/demo/shards/val]"]
        run("pcclip", "fit", "--config", "conf/demo/pretrain.yaml", *SHORT, *of_demo)
        run("pcclip-data", "embed", "--config", "conf/data/demo.yaml")
        run("pcclip", "fit", "--config", "conf/demo/finetune.yaml", *SHORT)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small demo was made."""
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder)
    return folder


def test_train_ends_with_a_table_of_three_models_and_a_model_that_open_clip_loads(demo: Path) -> None:
    rows = json.loads((demo / "runs/demo/results.json").read_text())
    assert {row["model"] for row in rows} == {"base", "finetuned", "ensembled 0.7"}
    assert {row["task"] for row in rows} == {"attribute_ranking", "difference_texts", "zero_shot", "retrieval"}
    assert all(row["low"] <= row["value"] <= row["high"] and row["n"] > 0 for row in rows if row["metric"] == "top1")
    page = (demo / "runs/demo/results.md").read_text()
    assert all(f"## {task}" in page for task in ("attribute_ranking", "difference_texts", "zero_shot", "retrieval"))
    open_clip.create_model_and_transforms(f"local-dir:{demo / 'runs/demo/finetuned'}")


def test_shards_batches_and_rows_are_as_recorded(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    assert golden.observe() == json.loads(golden.FILE.read_text(encoding="utf-8"))


ON_THE_DEMO = list(
    dict.fromkeys(
        COMMAND
        for block in BLOCKS
        if block.document.name in ("README.md", "get_started.md", "use.md") and block.language in ("sh", "bash")
        for words in commands(block)
        if (COMMAND := " ".join(words)) and Path(words[0]).name in ("pcclip", "pcclip-data") and "mine" not in COMMAND
    )
)


def test_commands_of_the_documentation_run(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One test, since a command may use what an earlier one has made.
    monkeypatch.chdir(demo)
    assert len(ON_THE_DEMO) >= 10
    for command in ON_THE_DEMO:
        program, *arguments = next(words for words in COMMANDS.values() if " ".join(words) == command)
        run(Path(program).name, *arguments)
    snippets = [
        block
        for block in BLOCKS
        if block.document.name in ("README.md", "get_started.md") and block.language == "python"
    ]
    assert len(snippets) == 2
    for block in snippets:
        exec(compile(block.text, f"{block.document.name}:{block.line}", "exec"), {"__name__": "__main__"})


def test_the_whole_protocol(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make eval`."""
    monkeypatch.chdir(demo)
    programs = tmp_path / "bin"
    run_script(programs, "make", "-f", str(ROOT / "Makefile"), "-o", ".venv/ready", f"BIN={programs}", "eval")
    rows = json.loads((demo / "runs/demo/eval/results.json").read_text())
    assert {row["model"] for row in rows} == {"base", "finetuned", "ensembled 0.3", "ensembled 0.5", "ensembled 0.7"}
    assert {row["task"] for row in rows} == {
        "attribute_ranking", "difference_texts", "zero_shot", "comparative_prompting",
        "arithmetic", "analogies", "linear_probe", "retrieval", "compositionality",
    }  # fmt: skip
    for picture in ("comparative_prompting", "arithmetic"):
        assert (demo / f"runs/demo/eval/{picture}.png").read_bytes().startswith(b"\x89PNG")
