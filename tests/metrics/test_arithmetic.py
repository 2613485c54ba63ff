"""Embedding arithmetic: known answers, SIMAT's own procedure, direction, analogies, bad input."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.analogies import analogies, attribute_quadruples, solved
from pcclip.metrics.arithmetic import Edits, arithmetic
from pcclip.metrics.bootstrap import Bootstrap
from tests.helpers.metrics import by_name

COLOURS, SHAPES = ("red", "blue", "green"), ("dot", "box", "bar")
GRID = [(colour, shape) for colour in COLOURS for shape in SHAPES]
AXES = {word: torch.eye(16)[place] for place, word in enumerate((*COLOURS, *SHAPES))}


def grid_images(copies: int = 2) -> Tensor:
    """`copies` slightly different images of each colour and shape."""
    noise = 0.05 * torch.randn(len(GRID) * copies, 16, generator=torch.Generator().manual_seed(0))
    means = torch.stack([AXES[colour] + AXES[shape] for colour, shape in GRID])
    return normalize(means.repeat_interleave(copies, 0) + noise, dim=-1)


def colour_edits(copies: int = 2) -> Edits:
    """Each image in the two other colours."""
    rows = [
        (image, colour, other, GRID.index((other, shape)))
        for image in range(len(GRID) * copies)
        for colour, shape in [GRID[image // copies]]
        for other in COLOURS
        if other != colour
    ]
    images, sources, targets, answers = zip(*rows, strict=True)
    right = torch.arange(len(GRID) * copies)[None] // copies == torch.arange(len(GRID))[:, None]
    return Edits(
        torch.tensor(images), list(sources), list(targets), torch.tensor(answers), right, torch.ones(len(rows))
    )


def recall(results: list[Any]) -> dict[str, float]:
    return {name: metric.value for name, metric in by_name(results).items() if name != "target_recall1"}


def test_target_texts_and_class_means_beside_it(make_encoder: Callable[..., Any]) -> None:
    encoder, images, edits = make_encoder(texts=AXES), grid_images(), colour_edits()
    labels = torch.arange(len(images)) // 2
    found = recall(arithmetic(encoder, images, replace(edits, labels=labels), lambdas=[0, 1], bootstrap=Bootstrap(0)))
    assert found == {"recall1_0": 0, "recall1_1": 1, "class_means_recall1_0": 0, "class_means_recall1_1": 1}
    blind = make_encoder(texts=dict.fromkeys(AXES, torch.ones(16)))
    noisy = normalize(images + 0.6 * torch.randn(18, 16, generator=torch.Generator().manual_seed(1)), dim=-1)
    means = torch.stack([noisy[labels == label].mean(0) for label in range(len(GRID))])
    right = []
    for image, answer in zip(edits.images.tolist(), edits.answers.tolist(), strict=True):
        scores = noisy @ (noisy[image] + means[answer] - means[labels[image]])
        scores[image] = -torch.inf
        right.append(float(labels[scores.argmax()] == answer))
    found = recall(arithmetic(blind, noisy, replace(edits, labels=labels), lambdas=[1], bootstrap=Bootstrap(0)))
    assert found["class_means_recall1_1"] == pytest.approx(np.mean(right))
    assert 0 < np.mean(right) < 1
    assert found["recall1_1"] < found["class_means_recall1_1"]

    results = by_name(arithmetic(encoder, images, edits, lambdas=[1], bootstrap=Bootstrap(50)))
    nearest = images @ torch.stack([AXES[text] for text in edits.targets]).T  # whatever the image shows
    nearest[edits.images, torch.arange(len(edits.images))] = -torch.inf
    expected = (labels[nearest.argmax(0)] == edits.answers).double().mean()
    assert results["target_recall1"].value == pytest.approx(float(expected))
    assert results["target_recall1"].low < float(expected) < results["target_recall1"].high
    assert "class_means_recall1_1" not in results


def test_difference_texts_move_images_too(make_encoder: Callable[..., Any]) -> None:
    edits, template = colour_edits(), "the first is {target}, the second {source}"
    texts = {
        template.replace("{target}", to).replace("{source}", of): AXES[to] - AXES[of]
        for to in COLOURS
        for of in COLOURS
        if to != of
    }
    encoder = make_encoder(texts=AXES | texts)
    found = recall(
        arithmetic(encoder, grid_images(), edits, lambdas=[0, 1], difference_template=template, bootstrap=Bootstrap(0))
    )
    assert found == {"recall1_0": 0, "recall1_1": 1, "difference_recall1_0": 0, "difference_recall1_1": 1}
    turned = make_encoder(texts=AXES | {text: -axis for text, axis in texts.items()})
    found = recall(
        arithmetic(turned, grid_images(), edits, lambdas=[1], difference_template=template, bootstrap=Bootstrap(0))
    )
    assert found == {"recall1_1": 1, "difference_recall1_1": 0}
    with pytest.raises(ValueError, match=r"has no \{source\}"):
        arithmetic(encoder, grid_images(), edits, difference_template="now {target}", bootstrap=Bootstrap(0))


def test_perfect_model_and_direction(make_encoder: Callable[..., Any]) -> None:
    encoder, images, edits = make_encoder(texts=AXES), grid_images(), colour_edits()
    results = arithmetic(encoder, images, edits, lambdas=[0, 1], bootstrap=Bootstrap(50))
    assert recall(results) == {"recall1_0": 0.0, "recall1_1": 1.0}  # unchanged, the nearest is its own twin
    assert results[1].n == len(GRID) * 2 * 2
    assert (results[1].low, results[1].high) == pytest.approx((1, 1))
    swapped = replace(edits, sources=edits.targets, targets=edits.sources)
    assert recall(arithmetic(encoder, images, swapped, lambdas=[1], bootstrap=Bootstrap(0))) == {"recall1_1": 0.0}
    assert recall(arithmetic(encoder, images, edits, lambdas=[-1], bootstrap=Bootstrap(0))) == {"recall1_-1": 0.0}


def test_equals_simats_procedure(make_encoder: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(1)
    images = normalize(torch.randn(30, 16, generator=generator), dim=-1)
    oracle = torch.rand(30, 12, generator=generator)  # image by caption
    edits = Edits(
        torch.randint(30, (80,), generator=generator),
        [f"source {row % 7}" for row in range(80)],
        [f"target {row % 5}" for row in range(80)],
        torch.randint(12, (80,), generator=generator),
        (oracle > 0.5).T,
        torch.rand(80, generator=generator) + 0.1,
    )
    encoder = make_encoder()
    results = arithmetic(encoder, images, edits, lambdas=[0.5, 2], bootstrap=Bootstrap(100))
    delta = encoder.encode_texts(edits.targets) - encoder.encode_texts(edits.sources)
    for result, factor in zip(results[:2], (0.5, 2), strict=True):
        nearest = ((images[edits.images] + factor * delta) @ images.T).topk(2).indices.tolist()
        own = edits.images.tolist()
        chosen = [best if best != image else next_best for (best, next_best), image in zip(nearest, own, strict=True)]
        scores = [
            float(oracle[image, answer]) > 0.5 for image, answer in zip(chosen, edits.answers.tolist(), strict=True)
        ]
        assert result.value == pytest.approx(np.average(scores, weights=edits.weights.numpy()), abs=1e-6)
        assert result.low < result.value < result.high


def test_saying_the_same_of_everything_earns_nothing(make_encoder: Callable[..., Any]) -> None:
    same = torch.ones(18, 16) / 4
    assert recall(arithmetic(make_encoder(texts=AXES), same, colour_edits(), lambdas=[0], bootstrap=Bootstrap(0))) == {
        "recall1_0": 0.0
    }


def test_lambdas_must_differ(make_encoder: Callable[..., Any]) -> None:
    for lambdas in ([], [1, 1]):
        with pytest.raises(ValueError, match="lambdas"):
            arithmetic(make_encoder(texts=AXES), grid_images(), colour_edits(), lambdas=lambdas)


def test_quadruples_are_all_and_right() -> None:
    quadruples = attribute_quadruples(GRID)
    assert len(quadruples) == len(GRID) * 2 * 2
    for a, b, c, d in quadruples:
        assert (GRID[a][1], GRID[b][0], GRID[c][1], GRID[d][0]) == (GRID[b][1], GRID[c][0], GRID[d][1], GRID[a][0])
        assert len({a, b, c, d}) == 4
    incomplete = attribute_quadruples(GRID[:-1])
    assert 0 < len(incomplete) < len(quadruples)
    with pytest.raises(ValueError, match="several classes have the attributes"):
        attribute_quadruples([*GRID, GRID[0]])


def test_analogies_and_direction() -> None:
    classes = grid_images(1)
    quadruples = attribute_quadruples(GRID)
    results = {result.name: result for result in analogies(classes, classes, quadruples, bootstrap=Bootstrap(50))}
    assert {metric: result.value for metric, result in results.items()} == {
        "text": 1.0, "image": 1.0, "image_by_text": 1.0,
    }  # fmt: skip
    assert results["text"].n == 36
    swapped = [(b, a, c, d) for a, b, c, d in quadruples]
    assert float(solved(classes, swapped).mean()) == 0
    # texts decide the change, images what is changed
    scrambled = classes[torch.randperm(9, generator=torch.Generator().manual_seed(0))]
    mixed = {result.name: result.value for result in analogies(scrambled, classes, quadruples, bootstrap=Bootstrap(0))}
    assert mixed["image"] == 1
    assert mixed["image_by_text"] < 0.5
    assert float(solved(torch.ones(9, 16) / 4, quadruples).sum()) == 0  # ties are lost
    slight = solved(classes, quadruples, moved=0.2 * classes)  # nearest to c itself, which is no candidate
    assert float(slight.mean()) > 0.9
