"""The page of results: what it says, and that it needs nothing else."""

import re
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from pcclip.cli import main
from pcclip.reports.report import report_page
from pcclip.reports.sample_pairs import SamplePair, samples_file, write_samples
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


def write_log(folder: Path) -> None:
    with SummaryWriter(str(folder)) as writer:
        for step in range(3):
            writer.add_scalar("train/loss", 3 - step, step)
            writer.add_scalar("attribute_ranking/demo/<size>/forced_choice", 0.1 * step, step)
            writer.add_scalar("summary/one_point", 1.0, 0)
    for ending in ("", "_before"):
        Image.new("RGB", (8, 4)).save(folder / f"ranked_demo_<size>{ending}.png")


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
    write_log(tmp_path / "runs" / "seed0" / "fit" / "version_0")
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
    # each run has headlines and a trade-off, one has a log
    assert page.count("data:image/svg+xml;base64,") == 2 * 2 + 2


def test_runs_that_are_not_alike_have_no_mean(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0)
    write_results(tmp_path / "b" / "results.json", {"base": [Result("zero_shot", "s", "top1", 0.5, 1, 0, 1)]})
    assert main(["report", str(tmp_path), "--output", str(tmp_path / "report.html")]) == 0
    assert "No means over runs" in (tmp_path / "report.html").read_text()


def test_page_of_a_run_shows_its_samples_in_place_of_markup(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    picture = Image.new("RGB", (4, 4))
    samples = [
        SamplePair(picture, picture, "<b>larger</b> & 'first'", "<i>smaller</i>", 0.3, 0.2),
        SamplePair(None, None, "no picture", "none either", 0.1, 0.2),
    ]
    scores = {"base": [(-0.1, 0.1), (0.5, 0.25)], "finetuned": [(0.3, 0.2), (0.1, 0.2)]}
    write_samples(samples_file(tmp_path / "results.json"), samples, scores)
    page = report_page([tmp_path / "results.json"])
    assert page.count("data:image/png;base64,") == 2
    assert "&lt;b&gt;larger&lt;/b&gt; &amp; &#39;first&#39;" in page
    assert "<b>larger" not in page
    assert (page.count("✓ "), page.count("✗ ")) == (2, 2)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []


def test_parts_without_data_are_left_out(tmp_path: Path) -> None:
    rows = [Result("zero_shot", "shape", "top1", 0.5, 10, 0.4, 0.6, None, 0.0)]
    write_results(tmp_path / "results.json", {"base": rows})
    page = report_page([tmp_path / "results.json"])
    assert page.count("<img") == 1  # the headlines
    for part in ("Pictures as ranked", "Sample pairs", "Weight ensembling", "finetuned"):
        assert part not in page
    assert "zero-shot" in page
