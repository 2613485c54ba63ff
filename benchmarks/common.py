"""What the benchmarks share: the machine and versions that a number belongs to, and where results go."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path("runs/benchmarks")


def machine() -> dict[str, Any]:
    """Processor, cores, accelerator, versions and commit."""
    import torch  # here: benchmarks that only start processes do not need torch

    processor = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "cpu": processor,
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "lightning", "open_clip_torch", "pillow")},
        "commit": commit.stdout.strip(),
    }


def write(name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write a benchmark's rows with the machine to `runs/benchmarks/NAME.json`."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps({"machine": machine(), "rows": list(rows)}, indent=1) + "\n", encoding="utf-8")
    return file
