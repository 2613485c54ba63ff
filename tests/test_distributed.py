"""Two processes train as one would on the joint batch, on disjoint data, and end together."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.helpers import run_fit, run_held_out
from tests.helpers.distributed import (
    SETTINGS,
    SHARDED,
    average_gradients,
    joined,
    module_and_batches,
    sharded_gradients,
)
from tests.helpers.models import gradients, make_module
from tests.helpers.processes import run_ranks
from tests.helpers.shards import write_image_shards

pytestmark = pytest.mark.distributed


def test_averaged_gradients_equal_those_of_the_joint_batch(tmp_path: Path) -> None:
    run_ranks(2, average_gradients, tmp_path, printed=tmp_path / "printed.txt")
    for number, settings in enumerate(SETTINGS):
        averaged = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        plain = {key: value for key, value in settings.items() if key not in ("chunk_size", "grad_checkpointing")}
        module, batches = module_and_batches(plain, 2)
        assert set(batches[0].image_ids.tolist()) & set(batches[1].image_ids.tolist())  # duplicates across ranks
        assert torch.equal(batches[0].caption_tokens, batches[1].caption_tokens)
        expected = gradients(module, joined(batches))[1]
        assert averaged.keys() == expected.keys()
        assert ("log_logit_scale" in expected) is (settings["difference_loss"] != "mse")
        for name, value in expected.items():
            assert (averaged[name] - value).abs().max() < 1e-10, (settings, name)
            assert settings["caption_weight"] or value.abs().max() > 0 or "hidden" in name, (settings, name)


def test_sharded_weights_make_the_gradients_of_the_joint_batch(tmp_path: Path) -> None:
    run_ranks(2, sharded_gradients, tmp_path, printed=tmp_path / "printed.txt")
    found, text = torch.load(tmp_path / "sharded.pt", weights_only=True)
    module, batches = module_and_batches(SHARDED, 2)
    expected = gradients(module, joined(batches))[1]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() < 1e-10, name
    torch.testing.assert_close(text, module.model.encode_texts(["a dog"]), rtol=0, atol=1e-12)


def test_learned_scalars_are_not_sharded() -> None:
    for settings in ({"learn_logit_scale": True}, {"difference_loss": "sigmoid"}):
        module = make_module(["text"], **settings)  # type: ignore[arg-type]
        module._device_mesh = object()  # type: ignore[assignment]
        with pytest.raises(ValueError, match=r"model\.learn_logit_scale"):
            module.configure_model()
    with pytest.raises(ValueError, match=r"model\.caption_logit_scale"):
        make_module(["all"], caption_weight=1).model.shard(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("groups_per_shard", "workers"), [(7, 3), (2, 0)])
def test_processes_share_the_data_and_end_together(tmp_path: Path, groups_per_shard: int, workers: int) -> None:
    # Seven groups for two processes: the odd one is left out, and another one in the next epoch.
    folder = write_image_shards(tmp_path / "shards", groups=7, group_size=4, groups_per_shard=groups_per_shard)
    shard = folder / "00000.tar"
    content = shard.read_bytes()
    start = content.index(b"\x89PNG")
    shard.write_bytes(content[:start] + b"\0" * 40 + content[start + 40 :])
    run_ranks(2, run_fit.main, str(folder), tmp_path, workers, printed=tmp_path / "printed.txt")
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["weights"] == second["weights"]
    assert first["val"] == second["val"]
    assert first["damaged"] == second["damaged"]
    assert first["damaged"] in (0, 1)  # one of seven groups, which may be the one left out
    for mine, other in zip(first["epochs"], second["epochs"], strict=True):
        assert len(mine) == len(other) == 3
        met = Counter(picture for batch in mine + other for picture in batch)
        assert len(met) >= 23  # 24 pictures, of which one may be damaged
        assert max(met.values()) == 1
    assert first["epochs"][0] != first["epochs"][1]


def test_held_out_losses_and_predictions_do_not_depend_on_the_processes(tmp_path: Path) -> None:
    # Seven groups in batches of three at most: three batches, of which the second of two processes has one and an empty one.
    folder = write_image_shards(tmp_path / "shards", groups=7, group_size=4, groups_per_shard=3)
    found = []
    for strategy, devices, workers in (("auto", 1, 0), ("ddp", 2, 1), ("sharded", 2, 0)):
        output = tmp_path / strategy
        output.mkdir()
        arguments = (str(folder), output, strategy, workers)
        said = run_ranks(devices, run_held_out.main, *arguments, printed=output / "printed.txt")
        ranks = [json.loads((output / f"{rank}.json").read_text()) for rank in range(devices)]
        for rank in ranks[1:]:
            assert rank["losses"] == ranks[0]["losses"]
        assert sorted(group for rank in ranks for group in rank["groups"]) == sorted(list(range(7)) * 2)
        rows = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
        assert len({(row["first"], row["second"]) for row in rows}) == len(rows) == 7 * 4 * 3
        assert said.count(f"written to {output / 'predictions.jsonl'}: 84 pairs") == 1
        found.append((ranks[0]["losses"], rows))
    (one, rows), *others = found
    assert one.keys() >= {"val/loss", "val/caption_loss", "test/loss", "test/sign_accuracy"}
    for losses, more in others:
        assert losses == pytest.approx(one, abs=1e-6)
        for mine, other in zip(rows, more, strict=True):
            assert other == pytest.approx(mine, abs=2e-6)
