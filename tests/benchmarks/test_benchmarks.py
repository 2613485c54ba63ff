"""The benchmarks run, with tiny shapes, and write what the documentation takes."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from benchmarks import docs, gpu, keep, loader, lora, memory, rank, text, towers
from tests.helpers.models import TINY


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.set_float32_matmul_precision", lambda precision: None)  # not for the tests that follow


def rows(name: str) -> list[dict[str, object]]:
    """What a benchmark wrote."""
    content = json.loads(Path(f"runs/benchmarks/{name}.json").read_text())
    assert content["machine"]["torch"]
    return list(content["rows"])


def test_steps_are_compared_and_reach_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    text.main(["--models", str(TINY), "--pairs", "8", "--repeats", "2"])
    towers.main(["--model", str(TINY), "--count", str(TINY), "--images", "4", "--pairs", "6", "--repeats", "2"])
    printed = capsys.readouterr().out
    differences = [float(line.split()[-2].rstrip(",")) for line in printed.splitlines() if "largest difference" in line]
    assert len(differences) == 2
    assert max(differences) < 1e-4
    for name in ("text", "towers"):
        plain, own = rows(name)
        assert plain["ratio"] == 1
        assert own["step"] == "pcclip"
    Path("docs").mkdir()
    Path("docs/benchmarks.md").write_text("before\n\n<!-- spread:text -->\nold\n<!-- /spread:text -->\nafter\n")
    assert docs.main() == 0
    page = Path("docs/benchmarks.md").read_text()
    assert page.startswith("before")
    assert "old" not in page
    assert page.count("| pcclip |") == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("shard", ["--count", "64", "--size", "64", "48", "--workers", "0", "--repeats", "1"]),
        ("describe", ["--requests", "8", "--repeats", "1"]),
        ("screen", ["--rows", "60", "--workers", "0"]),
    ],
)
def test_benchmarks_of_data_steps_run(name: str, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *options])
    importlib.import_module(f"benchmarks.{name}").main()


@pytest.mark.slow
def test_adapters_need_less_memory() -> None:
    lora.main(["--models", str(TINY), "--pairs", "8", "--repeats", "1"])
    full, adapters = rows("lora")
    assert adapters["state, MiB"] < full["state, MiB"] / 10  # type: ignore[operator]


def test_gpu_benchmark_runs_on_a_cpu() -> None:
    shape = ["--model", str(TINY), "--pairs", "64", "--steps", "1", "--warm-up", "1", "--repeats", "1"]
    gpu.main([*shape, "--workers", "0", "--kinds", "eager", "lora"])
    found = rows("gpu")
    assert [row["step"] for row in found] == ["eager", "lora"]
    for row in found:
        assert row["pairs/s"] > 0  # type: ignore[operator]
        assert row["MFU"] is None
        assert row["GFLOP a pair"] > 0  # type: ignore[operator]
    assert found[0]["GFLOP a pair"] != found[1]["GFLOP a pair"]


def test_the_keep_loss_is_measured() -> None:
    keep.main(["--models", str(TINY), "--pairs", "8", "--repeats", "1"])
    plain, kept = rows("keep")
    assert plain["ratio"] == 1
    assert kept["pairs/s"] > 0  # type: ignore[operator]


def test_loader_reads_what_its_baselines_read() -> None:
    shape = ["--groups", "16", "--image-groups", "16", "--size", "64", "48", "--workers", "1", "--repeats", "1"]
    loader.main(shape)
    found = rows("loader")
    assert [row["step"] == "pcclip" for row in found] == [False, True, False, True, False]
    assert all(row["a second"] > 0 for row in found)  # type: ignore[operator]


def test_ranking_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # the help is a process of its own
    rank.main(["--model", str(TINY), "--kept", "20", "--batches", "1", "--batch-size", "4", "--repeats", "1"])
    found = rows("rank")
    assert [(row["step"], row["pictures"]) for row in found] == [
        ("tower alone", 4),
        ("from files", 4),
        ("kept", 20),
        ("help", None),
    ]
    assert all(row["seconds"] > 0 for row in found)  # type: ignore[operator]


@pytest.mark.slow
def test_memory_is_measured_over_epochs_and_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # the trainings are processes of their own
    memory.main(["--shards", "5", "10", "--epochs", "10", "--workers", "1"])
    found = rows("memory")
    assert [(row["shards"], row["process"]) for row in found] == [
        (shards, process) for shards in (5, 10) for process in ("trainer", "all workers")
    ]
    assert all(row["last, MiB"] > 10 for row in found)  # type: ignore[operator]
