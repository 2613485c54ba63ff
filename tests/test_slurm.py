"""docs/slurm.sbatch starts what is meant, and puts the job back after the signals of a scheduler alone."""

import os
import subprocess
from pathlib import Path
from unittest.mock import patch

import pytest

from pcclip.cli import main
from pcclip.training_cli import PairCLI

ROOT = Path(__file__).parents[1]
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "8", "SLURM_CPUS_PER_TASK": "8"}


def run(folder: Path, code: int, *arguments: str) -> tuple[int, list[str]]:
    """Run the script with a cluster's commands that write down what they are told; srun ends with a code."""
    for name, ends_with in (("srun", code), ("scontrol", 0)):
        file = folder / name
        file.write_text(f'#!/bin/bash\nprintf "%s\\n" {name} "$@" >> {folder}/told\nexit {ends_with}\n')
        file.chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "docs/slurm.sbatch"), *arguments],
        env={**os.environ, **JOB, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        check=False,
    )
    return done.returncode, (folder / "told").read_text().split("\n")[:-1]


@pytest.mark.parametrize(("code", "again"), [(0, False), (1, False), (138, True), (143, True)])
def test_ended_by_a_signal_it_is_queued_again(tmp_path: Path, code: int, again: bool) -> None:
    found, told = run(tmp_path, code, "conf/paper.yaml")
    assert found == code
    assert (told[-3:] == ["scontrol", "requeue", "7"]) is again


def test_its_command_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (srun, program, *words) = run(tmp_path, 0, "conf/paper.yaml", "--data.num_workers=6")
    assert (srun, program) == ("srun", ".venv/bin/pcclip")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("torch.set_float32_matmul_precision", lambda precision: None)
    parsed = []
    with (
        patch.object(PairCLI, "instantiate_classes", lambda cli: parsed.append(cli.config)),
        patch.object(PairCLI, "execute"),
    ):
        main(words)
    (settings,) = parsed
    assert (settings.trainer.num_nodes, settings.trainer.devices, settings.data.num_workers) == (2, "8", 6)
    assert settings.resume
    (plugin,) = settings.trainer.plugins
    assert plugin.class_path.endswith("SLURMEnvironment")
    assert plugin.init_args.auto_requeue is False
