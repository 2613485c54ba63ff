"""The module's loss and gradients: fast paths equal plain ones, and nothing that trains is left without a gradient."""

import itertools
import math
from pathlib import Path
from typing import get_args

import open_clip
import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor
from torch.nn import functional as F

from pcclip.batch import PairBatch
from pcclip.model import ClipSource
from pcclip.model.keep import KeepName
from pcclip.model.module import LitDifferenceCLIP
from tests.helpers.models import embedded, gradients, make_batch, make_module, write_config

LOSSES = ["contrastive", "sigmoid", "mse"]
HEADS = ["identity", "linear", "mlp"]


def assert_same(left: tuple[Tensor, dict[str, Tensor]], right: tuple[Tensor, dict[str, Tensor]], atol: float) -> None:
    """The same loss and the same gradients of the same parameters."""
    torch.testing.assert_close(left[0], right[0], rtol=0, atol=atol)
    assert left[1].keys() == right[1].keys()
    for name, value in left[1].items():
        torch.testing.assert_close(
            value, right[1][name], rtol=0, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


def repeated(batch: PairBatch) -> PairBatch:
    """The same pairs and captions, each with images of its own."""
    assert batch.images is not None
    pairs, captions = len(batch.first), len(batch.captioned)
    return batch._replace(
        images=torch.cat([batch.images[batch.first], batch.images[batch.second], batch.images[batch.captioned]]),
        image_ids=torch.cat([batch.image_ids[rows] for rows in (batch.first, batch.second, batch.captioned)]),
        first=torch.arange(pairs),
        second=torch.arange(pairs, 2 * pairs),
        captioned=torch.arange(2 * pairs, 2 * pairs + captions),
    )


@pytest.mark.parametrize(("loss", "head"), zip(LOSSES, HEADS, strict=True))
def test_shared_images_equal_repeated_images(loss: str, head: str) -> None:
    module = make_module(["all"], head=head, difference_loss=loss, caption_weight=0.5, learn_logit_scale=True).double()
    batch = make_batch(module)
    assert_same(gradients(module, batch), gradients(module, repeated(batch)), atol=1e-12)


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm_resnet"])
def test_stored_embeddings_equal_the_live_frozen_tower(tmp_path: Path, kind: str) -> None:
    module = make_module(["text"], write_config(tmp_path, kind), head="linear", caption_weight=1)
    batch = make_batch(module)
    stored = embedded(module, batch)
    assert stored.images is None
    assert_same(gradients(module, batch), gradients(module, stored), atol=0)


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_equals_a_few_plain_lines(loss: str, masked: bool) -> None:
    weights = {"difference_weight": 0.7, "caption_weight": 0.3, "sign_weight": 0.4}
    settings = weights | {"logit_scale": 5.0, "mask_duplicates": masked}
    module = make_module(["all"], head="linear", difference_loss=loss, **settings).double()
    torch.nn.init.normal_(module.model.head.weight)
    batch = make_batch(module)
    batch.first[1], batch.second[1] = batch.first[0], batch.second[0]  # the same images, another text
    batch.tokens[3] = batch.tokens[2]
    batch.captioned[2] = batch.captioned[0]
    assert batch.images is not None
    towers = module.model.towers
    mean, std = (
        torch.tensor(value).double().view(3, 1, 1) for value in (towers.visual.image_mean, towers.visual.image_std)
    )
    images = towers.encode_image((batch.images / 255 - mean) / std, normalize=True)
    padded = [F.pad(tokens, (0, 77 - tokens.shape[1])) for tokens in (batch.tokens, batch.caption_tokens)]
    texts, captions = (towers.encode_text(tokens, normalize=True) for tokens in padded)
    pairs, described = len(batch.first), images[batch.captioned]
    differences = F.normalize((images[batch.first] - images[batch.second]) @ module.model.head.weight.T, dim=-1)
    logits = 5.0 * differences @ texts.T
    own = torch.arange(pairs)
    left_out = torch.zeros(pairs, pairs, dtype=torch.bool)
    for i, j in itertools.permutations(range(pairs), 2):
        same_images = batch.first[i] == batch.first[j] and batch.second[i] == batch.second[j]
        left_out[i, j] = masked and bool(same_images or torch.equal(batch.tokens[i], batch.tokens[j]))
    assert left_out.sum() >= 4 * masked
    logits[left_out] = -math.inf
    expected = {
        "contrastive": (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2,
        "sigmoid": F.softplus(-(2 * torch.eye(pairs) - 1) * (logits - 10)).sum() / pairs,
        "mse": (2 - 2 * (differences * texts).sum(-1)).mean(),
    }[loss]
    caption_logits = towers.logit_scale.exp() * described @ captions.T
    if masked:
        caption_logits[0, 2] = caption_logits[2, 0] = -math.inf
    labels = torch.arange(len(described))
    caption_loss = (F.cross_entropy(caption_logits, labels) + F.cross_entropy(caption_logits.T, labels)) / 2
    losses = module.losses(batch)
    # Float32 constants (preprocessing, logit scale) set the tolerance.
    torch.testing.assert_close(losses["difference_loss"], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(losses["caption_loss"], caption_loss, rtol=0, atol=1e-5)
    sign_loss = F.softplus(-10.0 * (differences * texts).sum(-1)).mean()
    torch.testing.assert_close(losses["sign_loss"], sign_loss, rtol=0, atol=1e-5)
    total = 0.7 * expected + 0.3 * caption_loss + 0.4 * sign_loss
    torch.testing.assert_close(losses["loss"], total, rtol=0, atol=1e-5)
    accuracy = ((differences * texts).sum(-1) > 0).double().mean()
    assert float(losses["sign_accuracy"]) == pytest.approx(float(accuracy))


@pytest.mark.parametrize("head", HEADS)
def test_swapping_first_and_second_negates_the_cosine(head: str) -> None:
    module = make_module(["text"], difference_loss="mse", head=head).double()
    for parameter in module.model.head.parameters():
        torch.nn.init.normal_(parameter)
    batch = make_batch(module)
    swapped = batch._replace(first=batch.second, second=batch.first)
    loss, other = module.losses(batch), module.losses(swapped)
    # Squared distances of unit vectors are 2 - 2 cos, so those of opposite differences add up to 4.
    assert float(loss["loss"] + other["loss"]) == pytest.approx(4, abs=1e-12)
    assert float(loss["sign_accuracy"] + other["sign_accuracy"]) == pytest.approx(1)
    torch.testing.assert_close(module.predict_step(swapped, 0), -module.predict_step(batch, 0), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("loss", "head"), zip([*LOSSES, "contrastive"], [*HEADS, "mlp"], strict=True))
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_a_pair_of_identical_images_changes_nothing(loss: str, head: str, masked: bool) -> None:
    settings = {"caption_weight": 0.5, "sign_weight": 0.3, "learn_logit_scale": True, "mask_duplicates": masked}
    module = make_module(["all"], head=head, difference_loss=loss, **settings).double()
    batch = make_batch(module)
    assert batch.images is not None
    expected = gradients(module, batch)
    assert module.losses(batch)["identical_pairs"] == 0
    # the last image again under another id, and two pairs of the two
    more = batch._replace(
        images=torch.cat([batch.images, batch.images[-1:]]),
        image_ids=torch.cat([batch.image_ids, torch.tensor([99])]),
        first=torch.cat([batch.first, torch.tensor([5, 6])]),
        second=torch.cat([batch.second, torch.tensor([6, 5])]),
        tokens=torch.cat([batch.tokens, batch.tokens[:2].flip(0)]),
    )
    found = gradients(module, more)
    assert_same(expected, found, atol=1e-12)
    losses = module.losses(more)
    assert losses["identical_pairs"] == 2
    torch.testing.assert_close(losses["sign_accuracy"], module.losses(batch)["sign_accuracy"])
    # no other pair is left
    only = more._replace(
        first=more.first[-2:], second=more.second[-2:], tokens=more.tokens[-2:], captioned=more.captioned
    )
    assert all(value.isfinite().all() for value in gradients(module, only)[1].values())
    assert module.losses(only)["difference_loss"] == 0


@pytest.mark.parametrize("tower", ["visual", "transformer"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_diverged_model_has_losses_of_nan(loss: str, tower: str) -> None:
    module = make_module(["all"], difference_loss=loss, sign_weight=0.3)  # type: ignore[arg-type]
    for parameter in module.model.towers.get_submodule(tower).parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    losses = module.losses(make_batch(module))
    assert losses.pop("identical_pairs") == 0
    assert all(value.isnan() for value in losses.values()), losses


def test_a_loss_of_weight_zero_is_not_computed() -> None:
    module = make_module(["all"], caption_weight=0)
    batch = make_batch(module)
    assert "caption_loss" not in module.losses(batch)
    assert torch.equal(
        module.losses(batch._replace(captioned=batch.captioned[:0]))["loss"], module.losses(batch)["loss"]
    )
    module = make_module(["all"], difference_weight=0, caption_weight=1)
    losses = module.losses(batch._replace(first=batch.first[:0], second=batch.second[:0], tokens=batch.tokens[:0]))
    assert losses.keys() == {"loss", "caption_loss"}
    assert torch.equal(losses["loss"], losses["caption_loss"])


@pytest.mark.parametrize(
    ("kind", "fixed", "loss"),
    [("vit", None, ClipLoss()), ("sigmoid", None, SigLipLoss()), ("sigmoid", 10.0, ClipLoss())],
)
def test_captions_have_the_loss_of_the_model(
    tmp_path: Path, kind: str, fixed: float | None, loss: torch.nn.Module
) -> None:
    settings = {"caption_weight": 1, "mask_duplicates": False, "caption_logit_scale": fixed}
    module = make_module(["all"], write_config(tmp_path, kind), **settings)
    batch, towers = make_batch(module), module.model.towers
    found = module.losses(batch)["caption_loss"]
    texts = module.model.encode_tokens(batch.caption_tokens)
    bias = () if towers.logit_bias is None or fixed else (towers.logit_bias,)
    scale = torch.tensor(fixed) if fixed else towers.logit_scale.exp()
    expected = loss(module.embed(batch)[batch.captioned], texts, scale, *bias)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    scales = [value for value in (towers.logit_scale, towers.logit_bias) if value is not None]
    if fixed:
        assert not any(value.requires_grad for value in scales)
        return
    assert all(gradient.abs() > 1e-6 for gradient in torch.autograd.grad(found, scales))


@pytest.mark.parametrize("kind", get_args(KeepName))
@pytest.mark.parametrize("trainable", ["text", "text_transformer", "all"])
def test_keep_loss_is_the_distance_from_the_base(trainable: str, kind: KeepName) -> None:
    module, base = (make_module([trainable], keep_weight=2.0, keep_loss=kind).double() for _ in range(2))
    names = set(module.state_dict())
    batch = make_batch(module)
    assert float(module.losses(batch)["keep_loss"].detach()) == pytest.approx(0, abs=1e-12)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad and parameter.ndim > 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
    losses = module.losses(batch)
    rows, scale = batch.captioned, base.model.towers.logit_scale.exp()

    def logits(module: LitDifferenceCLIP) -> Tensor:
        images = (module if trainable == "all" else base).embed(batch)[rows]
        return (scale * images @ module.model.encode_tokens(batch.caption_tokens).T).detach()

    expected = torch.tensor(0.0)
    for now, before in ((logits(module), logits(base)), (logits(module).T, logits(base).T)):
        p, q = before.softmax(-1), now.softmax(-1)
        expected = expected + (p * (p / q).log()).sum(-1).mean() / 2
    if kind == "features":
        captions = [each.model.encode_tokens(batch.caption_tokens) for each in (module, base)]
        pairs = [captions] + [[each.embed(batch)[rows] for each in (module, base)]] * (trainable == "all")
        expected = torch.stack([1 - F.cosine_similarity(now, before) for now, before in pairs]).mean().detach()
    assert expected > 0.01
    torch.testing.assert_close(losses["keep_loss"], expected, rtol=0, atol=1e-6)
    with torch.no_grad():  # as in validation
        torch.testing.assert_close(module.losses(batch)["keep_loss"], expected, rtol=0, atol=1e-6)
    assert "caption_loss" not in losses
    # The base is not saved, and shares what does not train.
    assert set(module.state_dict()) == names == set(make_module([trainable]).state_dict())
    frozen = {id(weight) for weight in module.parameters() if not weight.requires_grad}
    assert frozen >= {id(weight) for weight in module._keep_loss.base.towers.visual.parameters()} or trainable == "all"


def assert_every_gradient(module: LitDifferenceCLIP, batch: PairBatch) -> None:
    trainable = {name for name, value in module.named_parameters() if value.requires_grad}
    assert trainable
    assert gradients(module, batch)[1].keys() == trainable


PARTS = [
    ["all"],
    ["text"],
    ["text_transformer"],
    ["text_last_1"],
    ["image_projection", "logit_scale"],
    ["image_last_1"],
]


@pytest.mark.parametrize("parts", PARTS, ids="+".join)
def test_every_trainable_parameter_gets_a_gradient(parts: list[str]) -> None:
    weights = [(1, 0), (0, 1), (1, 1)]
    # Each loss meets each pair of weights, heads and scales in turn.
    for number, (loss, (difference, caption)) in enumerate(itertools.product(LOSSES, weights)):
        module = make_module(
            parts,
            head=HEADS[(number + number // 3) % 3],
            difference_loss=loss,
            difference_weight=difference,
            caption_weight=caption,
            learn_logit_scale=True,
            caption_logit_scale=10.0 if number % 2 else None,
        )
        assert_every_gradient(module, make_batch(module))


@pytest.mark.parametrize("kind", ["resnet", "custom_text", "timm_resnet", "timm_vit", "coca", "sigmoid"])
@pytest.mark.parametrize("caption", [0, 1])
def test_every_trainable_parameter_of_every_tower_gets_a_gradient(tmp_path: Path, kind: str, caption: int) -> None:
    module = make_module(["all"], write_config(tmp_path, kind), caption_weight=caption)
    assert_every_gradient(module, make_batch(module))
    text = make_module(["text"], write_config(tmp_path, kind), caption_weight=caption, head="mlp")
    assert_every_gradient(text, embedded(text, make_batch(text)))


def test_learned_logit_scale_starts_where_it_is_set() -> None:
    batch = make_batch(make_module(["text"]))
    for learn in (False, True):
        module = make_module(["text"], logit_scale=14.0, learn_logit_scale=learn)
        assert float(module.log_logit_scale.exp()) == pytest.approx(14)
        assert ("log_logit_scale" in gradients(module, batch)[1]) is learn
    for weight in (0.0, 1.0):  # the sign loss has a scale, mse has none
        mse = make_module(["text"], difference_loss="mse", sign_weight=weight, learn_logit_scale=True)
        assert ("log_logit_scale" in gradients(mse, batch)[1]) is (weight > 0)
    # the gradient is that of the scale's logarithm: numerically
    module = module.double()
    found = float(gradients(module, batch)[1]["log_logit_scale"])
    values = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            module.log_logit_scale.fill_(math.log(14) + step)
        values.append(float(module.losses(batch)["loss"]))
    assert found == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)


def test_scale_at_its_limit_keeps_its_gradient() -> None:
    # OpenAI's checkpoints hold exactly the logarithm of 100, a hair above it in float32.
    module = make_module(["all"], caption_weight=1, logit_scale=100, learn_logit_scale=True)
    with torch.no_grad():
        module.model.towers.logit_scale.fill_(math.log(100) + 1e-6)
    found = gradients(module, make_batch(module))[1]
    assert found["log_logit_scale"].abs() > 0
    assert found["model.towers.logit_scale"].abs() > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"difference_weight": 0}, "model.difference_weight"),
        ({"sign_weight": 1, "difference_weight": 0, "caption_weight": 1}, "model.difference_weight"),
        ({"logit_scale": 200}, "model.logit_scale=200"),
    ],
)
def test_settings_without_sense_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_module(["text"], **settings)


def test_source_reaches_the_loader(tmp_path: Path) -> None:
    source = ClipSource(write_config(tmp_path, "vit"), preprocess={"mean": [0.1, 0.2, 0.3]})
    module = make_module(["text"], source)
    assert module.model.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert open_clip.get_model_preprocess_cfg(module.model.towers)["mean"] == [0.1, 0.2, 0.3]
