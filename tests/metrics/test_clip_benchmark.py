"""CLIP_benchmark's zero-shot accuracy of an exported checkpoint, on shards in its own layout, to the last digit."""

import io
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from pcclip.model import load_clip, save_clip
from pcclip.tasks import ZeroShot, evaluate
from tests.helpers.models import TINY
from tests.helpers.pictures import write_tar

pytestmark = pytest.mark.slow

CLASSES = ["ant", "bee", "cat", "dog", "elk", "fly"]


def write_wds(folder: Path) -> None:
    """Two shards of noise pictures, as CLIP_benchmark's own export writes them."""
    rng = np.random.default_rng(0)
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\nmany {c}s\n")
    (folder / "test" / "nshards.txt").write_text("2\n")
    for shard in range(2):
        members: dict[str, bytes] = {}
        for number in range(30):
            stream = io.BytesIO()
            Image.fromarray(rng.integers(256, size=(40, 32, 3), dtype=np.uint8)).save(stream, "PNG")
            name, label = f"s{shard}{number:03d}", str(int(rng.integers(6)))
            members |= {f"{name}.png": stream.getvalue(), f"{name}.cls": label.encode()}
        write_tar(folder / "test" / f"{shard}.tar", members)


def test_zero_shot_of_an_exported_checkpoint_is_clip_benchmarks(tmp_path: Path) -> None:
    builder = pytest.importorskip("clip_benchmark.datasets.builder")
    metric = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")
    write_wds(tmp_path / "wds")
    torch.manual_seed(1)
    exported = tmp_path / "exported"
    save_clip(load_clip(str(TINY)), exported)

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{exported}")
    model.eval()
    dataset = builder.build_dataset(
        "wds/tiny", root=str(tmp_path / "wds"), transform=transform, split="test", download=False
    )
    loader = torch.utils.data.DataLoader(
        dataset.batched(16), batch_size=None, shuffle=False, num_workers=0, collate_fn=None
    )
    tokenizer = open_clip.get_tokenizer(f"local-dir:{exported}")
    classifier = metric.zero_shot_classifier(model, tokenizer, dataset.classes, dataset.templates, "cpu", amp=False)
    logits, target = metric.run_classification(model, classifier, loader, "cpu", amp=False)
    # its own `accuracy` does not run with numpy 2.5: the same from its logits
    ranked = logits.topk(5).indices == target[:, None]
    theirs = {1: ranked[:, 0].float().mean().item(), 5: ranked.any(1).float().mean().item()}

    folder = tmp_path / "wds"
    templates = str(folder / "zeroshot_classification_templates.txt")
    task = ZeroShot(name="tiny", images=str(folder / "test"), templates=templates)
    ours = {row.metric: row.value for row in evaluate(load_clip(f"local-dir:{exported}"), [task], resamples=5)}
    assert ours["top1"] == pytest.approx(theirs[1], abs=1e-7)
    assert ours["top5"] == pytest.approx(theirs[5], abs=1e-7)
    assert ours["mean_per_class"] == pytest.approx(balanced_accuracy_score(target, logits.argmax(1)), abs=1e-7)
