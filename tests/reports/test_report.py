"""The page of results: what it says, and that it needs nothing else."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from pcclip.cli import main
from pcclip.results import Result, write_results


def write_run(folder: Path, shift: float) -> None:
    models = {"base": (0.5, 0.0), "finetuned": (0.9, 1.0), "ensembled 0.7": (0.8, 0.7)}
    results = {
        model: [
            Result(
                "attribute_ranking",
                "demo/<size>",
                "forced_choice",
                value + shift,
                100,
                value - 0.1,
                value + 0.1,
                None,
                alpha,
            ),
            Result("zero_shot", "shape", "worst_class", float("nan"), 10, float("nan"), float("nan")),
        ]
        for model, (value, alpha) in models.items()
    }
    write_results(folder / "results.json", results)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and tag == self.open[-1]:
            self.open.pop()


def test_page_of_several_runs(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / "runs" / f"seed{seed}", 0.05 * seed)
    with SummaryWriter(str(tmp_path / "runs" / "seed0" / "fit" / "version_0")) as writer:
        for step, level in ((0, 10), (9, 200)):
            writer.add_image("ranked/demo/size", np.full((3, 4, 4), level, dtype=np.uint8), step)
    output = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "runs"), "--output", str(output)]) == 0
    page = output.read_text()
    assert "All 2 runs" in page
    assert "0.925 <small>[0.900, 0.950]</small>" in page  # finetuned: mean, lowest and highest of the two
    assert "0.800 <small>[0.700, 0.900]</small>" in page
    assert "demo/&lt;size&gt;" in page
    assert "demo/<size>" not in page
    assert page.count("data:image/png;base64,") == 2
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert page.count("data:image/svg+xml;base64,") == 2  # a chart for each run


def test_runs_that_are_not_alike_have_no_mean(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0)
    write_results(tmp_path / "b" / "results.json", {"base": [Result("zero_shot", "s", "top1", 0.5, 1, 0, 1)]})
    assert main(["report", str(tmp_path), "--output", str(tmp_path / "report.html")]) == 0
    assert "No means over runs" in (tmp_path / "report.html").read_text()
