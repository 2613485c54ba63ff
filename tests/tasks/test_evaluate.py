"""Measuring without a Trainer: what is kept from one model to the next, and embeddings that are not numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pcclip.results import Result
from pcclip.tasks import Evaluator, LinearProbe, evaluate
from tests.helpers.world import TinyModel, by_name, ranking, shot


def probe(world: Path, **changes: Any) -> LinearProbe:
    folder = str(world / "classes")
    return LinearProbe(**{"name": "probes", "images": folder, "test": folder, "shots": [1], "draws": 2} | changes)


def other_texts(shift: float = 0) -> TinyModel:
    """A model with another text tower, and an image tower moved by a number."""
    model = TinyModel()
    with torch.no_grad():
        model.words.weight.copy_(torch.randn(model.words.weight.shape, generator=torch.Generator().manual_seed(5)))
        model.visual.weight += shift
    return model


def test_images_are_encoded_once_for_each_image_tower(world: Path, tmp_path: Path) -> None:
    evaluator = Evaluator([ranking(world), shot(world), shot(world, "again")], resamples=5)
    for model, encoded in ((TinyModel(), 23 + 15), (other_texts(), 0), (other_texts(1), 23 + 15), (TinyModel(), 38)):
        evaluator.measure(model)
        assert model.encoded == encoded


def test_what_a_folder_keeps(world: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    first = TinyModel()
    rows = evaluate(first, [shot(world)], resamples=5, cache_dir=cache)
    assert (first.encoded, first.encoded_texts) == (15, 3)
    second = TinyModel()
    assert evaluate(second, [shot(world)], resamples=5, cache_dir=cache) == rows
    assert (second.encoded, second.encoded_texts) == (0, 0)
    third = other_texts()
    assert evaluate(third, [shot(world)], resamples=5, cache_dir=cache) != rows
    assert (third.encoded, third.encoded_texts) == (0, 3)  # a second model costs its texts only

    file = max(tmp_path.rglob("texts-*.npz"), key=lambda path: path.stat().st_mtime)
    with np.load(file) as stored:
        texts, embeddings = stored["texts"], stored["embeddings"].copy()
    embeddings[1] = np.nan
    np.savez(file, texts=texts, embeddings=embeddings)  # damaged rows are encoded again
    fourth = other_texts()
    evaluate(fourth, [shot(world)], resamples=5, cache_dir=cache)
    assert fourth.encoded_texts == 1


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One item for each fit of probes."""
    import pcclip.tasks.linear_probe as module

    done: list[str] = []
    original = module.linear_probe

    def counted(*arguments: Any, **settings: Any) -> Any:
        done.append("fit")
        return original(*arguments, **settings)

    monkeypatch.setattr(module, "linear_probe", counted)
    return done


def test_probes_of_the_same_images_are_fitted_once(world: Path, tmp_path: Path, fits: list[str]) -> None:
    evaluator = Evaluator([probe(world)], resamples=5)
    rows = evaluator.measure(TinyModel())
    assert evaluator.measure(other_texts()) == rows
    assert len(fits) == 1
    evaluator.measure(other_texts(0.5))
    assert len(fits) == 2

    fits.clear()
    cache = tmp_path / "cache"

    def stored(resamples: int = 5, shift: float = 0, **changes: Any) -> list[Result]:
        return evaluate(other_texts(shift), [probe(world, **changes)], resamples=resamples, cache_dir=str(cache))

    first = stored()
    assert first == stored() == rows
    assert len(fits) == 1
    for changed in ({"resamples": 6}, {"draws": 3}, {"shift": 0.5}):
        stored(**changed)  # type: ignore[arg-type]
    assert len(fits) == 4
    for file in cache.glob("metrics-*.json"):
        file.write_text("[")  # a broken file is made again
    assert stored() == first
    assert len(fits) == 5


@pytest.mark.parametrize("changed", ["VERSION", "sklearn.__version__"])
def test_probes_of_another_version_are_fitted_again(
    world: Path, tmp_path: Path, fits: list[str], monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    for times in (1, 2):
        evaluate(TinyModel(), [probe(world)], resamples=5, cache_dir=str(tmp_path))
        assert len(fits) == times
        monkeypatch.setattr(f"pcclip.tasks.linear_probe.{changed}", "another")


def test_costly_tasks_and_intervals_are_final_only(world: Path) -> None:
    evaluator = Evaluator([probe(world), ranking(world, ceiling=True)], resamples=5)
    final, quick = (by_name(evaluator.measure(TinyModel(), final=final)) for final in (True, False))
    name = "attribute_ranking/world/brightness"
    assert set(final) - set(quick) == {
        *(tag for tag in final if tag.startswith("linear_probe")),
        *(f"{name}/{metric}" for metric in ("ceiling_spearman", "ceiling_forced_choice", "share_of_ceiling")),
    }
    assert final[f"{name}/spearman"].value == quick[f"{name}/spearman"].value
    assert np.isnan([row.low for row in quick.values()]).all()


def test_bad_settings(world: Path) -> None:
    with pytest.raises(ValueError, match="zero_shot colours"):
        Evaluator([shot(world), ranking(world, "colours"), shot(world)])
    with pytest.raises(ValueError, match="batch_size=0"):
        Evaluator([shot(world)], batch_size=0)
    with pytest.raises(ValueError, match="resamples=0"):
        Evaluator([shot(world)], resamples=0)


def test_errors_name_the_task_but_bugs_are_not_disguised(world: Path) -> None:
    class Buggy(TinyModel):
        def difference(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            raise ValueError("from elsewhere")

    with pytest.raises(ValueError, match=r"^from elsewhere$"):
        evaluate(Buggy(), [ranking(world)], resamples=5)


def test_a_model_without_finite_images_ends_the_evaluation(world: Path) -> None:
    model = TinyModel()
    torch.nn.init.constant_(model.visual.weight, torch.nan)
    for task, count in ((ranking(world), 23), (shot(world), 15), (probe(world), 15)):
        with pytest.raises(ValueError, match=f"^{task.title}: .* {count} of {count}"):
            evaluate(model, [task], resamples=5)


def test_an_image_that_alone_is_not_finite_is_left_out_and_not_kept(world: Path, tmp_path: Path) -> None:
    with Image.open(world / "images" / "003.png") as picture:
        level = picture.convert("RGB").getpixel((0, 0))[0]  # type: ignore[index]

    class Odd(TinyModel):
        def encode_images(self, images: torch.Tensor) -> torch.Tensor:
            embedded = super().encode_images(images)
            embedded[images[:, 0, 0, 0] == level] = torch.inf
            return embedded

    name = "attribute_ranking/world/brightness/spearman"
    with pytest.warns(UserWarning, match=r"attribute_ranking world: .* 1 of 23"):
        found = by_name(evaluate(Odd(), [ranking(world)], resamples=5, cache_dir=str(tmp_path)))
    assert found[name].n == 21  # one value is unknown
    assert not any(np.isnan(row.value) for row in found.values())
    again = TinyModel()
    assert by_name(evaluate(again, [ranking(world)], resamples=5, cache_dir=str(tmp_path)))[name].n == 22
    assert again.encoded == 1  # the others were kept
