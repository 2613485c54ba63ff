"""Trimmed texts equal full-length texts, forward and backward."""

from __future__ import annotations

import open_clip
import pytest
import torch

from pcclip.model import DifferenceModel
from pcclip.model.text import LEAST_CHUNK, Tokenizer, encode_tokens, is_trimmable

TEXTS = ["a dog", "the first picture shows three large red circles on the left, while the second shows a cross", "the"]


def test_tokens_end_with_the_longest_text(tiny_clip: DifferenceModel) -> None:
    full = open_clip.get_tokenizer("ViT-B-32")(TEXTS)
    tokens = tiny_clip.tokenizer(TEXTS)
    assert tokens.shape[1] == int((full != 0).sum(1).max()) < 77
    assert torch.equal(tokens, full[:, : tokens.shape[1]])


def test_known_texts_are_not_tokenised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcclip.model.text.KEPT_TEXTS", 4)
    asked: list[list[str]] = []
    tokenize = open_clip.get_tokenizer("ViT-B-32")

    def counting(texts: list[str]) -> torch.Tensor:
        asked.append(texts)
        return tokenize(texts)

    tokenizer = Tokenizer(counting, trim=False)
    for texts in (["a", "b", "a"], ["b", "c"], ["d", "e"], ["e", "a"]):
        assert torch.equal(tokenizer(texts), tokenize(texts))
    assert asked == [["a", "b"], ["c"], ["d", "e"], ["a"]]  # the fifth text made room by forgetting the first three


def test_no_texts_make_no_rows(tiny_clip: DifferenceModel) -> None:
    assert tiny_clip.tokenizer([]).shape[0] == 0
    assert tiny_clip.encode_texts([]).shape == (0, tiny_clip.embed_dim)


@pytest.mark.parametrize("least", [512, 10], ids=["whole", "chunks"])
def test_unpadded_equals_full_length_forward_and_backward(
    tiny_clip: DifferenceModel, monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    monkeypatch.setitem(LEAST_CHUNK, "cpu", least)
    clip = tiny_clip.double()
    lengths = []
    clip.towers.transformer.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    texts = [*TEXTS, *reversed(TEXTS), "a cross"]
    full = open_clip.get_tokenizer("ViT-B-32")(texts)
    weights = torch.randn(len(texts), clip.embed_dim, dtype=torch.float64)
    gradients = []
    for encode in (lambda: encode_tokens(clip.towers, clip.tokenizer(texts)), lambda: clip.towers.encode_text(full)):
        clip.zero_grad()
        output = encode()
        (output * weights).sum().backward()
        gradients.append((output.detach(), {n: p.grad for n, p in clip.named_parameters() if p.grad is not None}))
    assert lengths == ([20, 77] if least == 512 else [3, 4, 20, 20, 77])
    (trimmed, trimmed_grad), (plain, plain_grad) = gradients
    torch.testing.assert_close(trimmed, plain, rtol=0, atol=1e-12)
    assert trimmed_grad.keys() == plain_grad.keys()
    for name in plain_grad:
        torch.testing.assert_close(trimmed_grad[name], plain_grad[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("text_cfg", "trimmable"),
    [({}, True), ({"no_causal_mask": True, "pool_type": "last"}, False), ({"embed_cls": True}, False)],
)
def test_only_causal_towers_pooled_at_the_end_are_trimmed(text_cfg: dict[str, object], trimmable: bool) -> None:
    towers = open_clip.CustomTextCLIP(
        embed_dim=16,
        vision_cfg={"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        text_cfg={"width": 32, "heads": 2, "layers": 1, **text_cfg},
    ).eval()
    assert is_trimmable(towers) is trimmable
    tokenize = open_clip.get_tokenizer("ViT-B-32")
    tokens = Tokenizer(tokenize, trim=is_trimmable(towers))(TEXTS)
    assert (tokens.shape[1] < 77) is trimmable
    torch.testing.assert_close(encode_tokens(towers, tokens), towers.encode_text(tokenize(TEXTS)), rtol=0, atol=1e-6)
