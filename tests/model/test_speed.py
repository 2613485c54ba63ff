"""What saves time or memory changes no number: chunks, checkpointing, compiled towers, texts encoded once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.models import (
    TINY,
    assert_same_step,
    embedded,
    gradients,
    make_batch,
    make_module,
    saved_bytes,
    write_config,
)

SETTINGS: dict[str, Any] = {"head": "mlp", "caption_weight": 0.5, "learn_logit_scale": True}
LOSSES = ["contrastive", "sigmoid", "mse"]


@pytest.mark.parametrize(("loss", "chunk_size"), zip(LOSSES, [1, 3, 100], strict=True))
def test_chunked_step_equals_the_whole_one(loss: str, chunk_size: int) -> None:
    settings = {**SETTINGS, "difference_loss": loss}
    chunked = make_module(["all"], chunk_size=chunk_size, **settings).double()
    whole = make_module(["all"], **settings).double()
    assert_same_step(chunked, whole)
    assert saved_bytes(chunked) < saved_bytes(whole) / 8


@pytest.mark.parametrize("kind", ["custom_text", "timm_vit", "sigmoid"])
def test_chunked_step_equals_the_whole_one_for_other_towers(tmp_path: Path, kind: str) -> None:
    config = write_config(tmp_path, kind)
    assert_same_step(
        make_module(["all"], config, chunk_size=2, grad_checkpointing=True, **SETTINGS).double(),
        make_module(["all"], config, **SETTINGS).double(),
    )


def test_chunks_are_refused_where_batch_statistics_train(tmp_path: Path) -> None:
    config = write_config(tmp_path, "resnet")
    with pytest.raises(ValueError, match=r"model\.chunk_size=4: the towers' batch norms"):
        make_module(["all"], config, chunk_size=4)
    assert_same_step(
        make_module(["text"], config, chunk_size=4, caption_weight=1).double(),
        make_module(["text"], config, caption_weight=1).double(),
    )


def test_checkpointed_towers_keep_less_and_give_the_same() -> None:
    checkpointed = make_module(["all"], grad_checkpointing=True, **SETTINGS).double()
    plain = make_module(["all"], **SETTINGS).double()
    assert_same_step(checkpointed, plain)
    assert saved_bytes(checkpointed) < saved_bytes(plain) / 3


def test_compiled_towers_keep_names_and_numbers() -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    compiled = make_module(["all"], grad_checkpointing=True, **SETTINGS).double()
    compiled.model.compile_towers(backend)
    assert_same_step(compiled, make_module(["all"], **SETTINGS).double())
    assert 0 < len(graphs) <= 6  # blocks share their code


def test_setting_compiles_the_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("pcclip.model.DifferenceCLIP.compile_towers", lambda self: calls.append(self))
    assert make_module(["text"], compile=True).model is calls[0]
    make_module(["text"])
    assert len(calls) == 1


@pytest.mark.slow
def test_compiled_step_by_the_default_backend() -> None:
    pytest.importorskip("torch._inductor")
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception:
        pytest.skip("no C++ compiler")
    compiled, plain = (make_module(["text"], str(TINY), compile=on) for on in (True, False))
    batch = embedded(plain, make_batch(plain))  # half as much to compile
    (loss, found), (expected_loss, expected) = gradients(compiled, batch), gradients(plain, batch)
    torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-5)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


def test_frozen_text_tower_encodes_each_text_once() -> None:
    module = make_module(["image"], **SETTINGS).double()
    module.model.train()
    encoded: list[int] = []
    tower = module.model.towers.transformer
    tower.resblocks[0].register_forward_pre_hook(lambda _, inputs: encoded.append(len(inputs[0])))
    batch = make_batch(module)
    distinct = len({tuple(row) for row in batch.tokens.tolist()}) + len(batch.caption_tokens)
    with torch.inference_mode():
        module.losses(batch._replace(tokens=batch.tokens[:4], first=batch.first[:4], second=batch.second[:4]))
    loss, found = gradients(module, batch)
    assert sum(encoded) == distinct
    other = make_module(["image"], **SETTINGS).double()
    for parameter in other.model.towers.ln_final.parameters():
        parameter.requires_grad = True  # not frozen, so encoded each time
    expected_loss, expected = gradients(other, batch)
    torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-12)
    assert found.keys() == expected.keys() - {"model.towers.ln_final.weight", "model.towers.ln_final.bias"}
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-12)


def test_texts_are_encoded_anew_by_other_weights_and_in_other_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcclip.model.text.KEPT_EMBEDDINGS", 6)
    module = make_module(["image"])
    texts = [f"text {i}" for i in range(4)]
    first = module.model.encode_texts(texts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = module.model.encode_texts(texts)
    assert not torch.equal(first, coarse)
    assert torch.equal(module.model.encode_texts(texts), first)
    module.model.towers.load_state_dict(make_module(["image"], seed=1).model.towers.state_dict())
    changed = module.model.encode_texts(texts)
    torch.testing.assert_close(changed, make_module(["text"], seed=1).model.encode_texts(texts), rtol=0, atol=1e-6)
    more = module.model.encode_texts([f"text {i}" for i in range(3, 7)])  # forgets what it knew
    torch.testing.assert_close(more[0], changed[3], rtol=0, atol=1e-6)
    assert module.model.double().encode_texts(texts).dtype == torch.float64
