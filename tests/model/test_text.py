"""Trimmed texts equal full-length texts, forward and backward."""

import itertools
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import open_clip
import pytest
import torch

from pcclip.model import DifferenceCLIP
from pcclip.model.chunks import cut
from pcclip.model.text import CHUNK_COST, Tokenizer, encode_tokens, is_trimmable, text_tower
from tests.helpers.models import make_clip

TEXTS = ["a dog", "the first picture shows three large red circles on the left, while the second shows a cross", "the"]


def test_tokens_end_with_the_longest_text(tiny_clip: DifferenceCLIP) -> None:
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
    assert asked == [["a", "b"], ["c"], ["d", "e"], ["e"]]  # there was no room for the fifth text


def test_no_texts_make_no_rows(tiny_clip: DifferenceCLIP) -> None:
    assert tiny_clip.tokenizer([]).shape[0] == 0
    assert tiny_clip.encode_texts([]).shape == (0, tiny_clip.embed_dim)


FAST_PATHS: dict[str, tuple[dict[str, int], list[int]]] = {  # settings, and lengths of the chunks
    "whole": ({}, [20]),
    "by_length": ({"cost": 1}, [3, 4, 20]),
    "by_size": ({"chunk_size": 3}, [4, 4, 20]),
    "by_both": ({"cost": 1, "chunk_size": 1}, [3, 3, 4, 4, 4, 20, 20]),
    "few_shapes": ({"cost": 1, "multiple": 16}, [16, 32]),
}


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("path", FAST_PATHS)
@pytest.mark.parametrize("kind", ["vit", "custom_text", "qk_norm"])
def test_unpadded_equals_full_length_forward_and_backward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, path: str, checkpointing: bool
) -> None:
    clip = make_clip(tmp_path, kind).double()
    settings, expected_lengths = FAST_PATHS[path]
    settings = dict(settings)
    monkeypatch.setitem(CHUNK_COST, "cpu", settings.pop("cost", 1000))
    lengths: list[int] = []
    blocks = text_tower(clip.towers).transformer.resblocks
    blocks[0].register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    texts = [*TEXTS, *reversed(TEXTS), "a cross"]
    full = open_clip.get_tokenizer("ViT-B-32")(texts)
    weights = torch.randn(len(texts), clip.embed_dim, dtype=torch.float64)
    keys = list(clip.state_dict())

    def outcome(encode: Callable[[], torch.Tensor]) -> dict[str, torch.Tensor]:
        clip.zero_grad()
        output = encode()
        (output * weights).sum().backward()
        found = {name: value.grad for name, value in clip.named_parameters() if value.grad is not None}
        return {"output": output.detach(), **found}

    plain = outcome(lambda: clip.towers.encode_text(full))
    clip.towers.set_grad_checkpointing(checkpointing)
    lengths.clear()
    fast = outcome(lambda: encode_tokens(clip.towers, clip.tokenizer(texts), **settings))
    assert lengths[: len(expected_lengths)] == expected_lengths  # then those of recomputed ones
    assert (len(lengths) > len(expected_lengths)) is (checkpointing or "chunk_size" in settings)
    assert list(clip.state_dict()) == keys
    assert fast.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(fast[name], value, rtol=0, atol=1e-12)


def test_cut_makes_the_least_work_of_all_cuts() -> None:
    generator = random.Random(0)
    for _ in range(20):
        lengths = sorted(generator.choices(range(3, 12), k=7))
        cost = generator.choice([0, 3, 10, 40])

        def work(sizes: Iterable[int], lengths: list[int] = lengths, cost: int = cost) -> int:
            ends = list(itertools.accumulate(sizes))
            return sum((end - begin) * lengths[end - 1] + cost for begin, end in zip([0, *ends], ends, strict=False))

        cuts = [places for r in range(7) for places in itertools.combinations(range(1, 7), r)]
        every = [[b - a for a, b in itertools.pairwise([0, *places, 7])] for places in cuts]
        assert work(cut(lengths, cost)) == min(map(work, every))
    assert cut([5] * 10, 1, chunk_size=4) == [4, 3, 3]


@pytest.mark.parametrize(
    ("text_cfg", "trimmable"),
    [({}, True), ({"no_causal_mask": True, "pool_type": "last"}, False), ({"embed_cls": True}, False)],
)
def test_only_causal_towers_pooled_at_the_end_are_trimmed(text_cfg: dict[str, object], trimmable: bool) -> None:
    towers = open_clip.CustomTextCLIP(
        embed_dim=16,
        vision_cfg={"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        text_cfg={"width": 32, "heads": 2, "layers": 1, **text_cfg},
    )
    towers.double().eval()
    assert is_trimmable(towers) is trimmable
    tokenize = open_clip.get_tokenizer("ViT-B-32")
    tokens = Tokenizer(tokenize, trim=is_trimmable(towers))(TEXTS)
    assert (tokens.shape[1] < 77) is trimmable
    torch.testing.assert_close(encode_tokens(towers, tokens), towers.encode_text(tokenize(TEXTS)), rtol=0, atol=1e-12)
