"""Embedding arithmetic and analogies: known answers and direction."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.arithmetic import Edits, analogies, arithmetic, attribute_quadruples, solved
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


def test_perfect_model_and_direction(make_encoder: Callable[..., Any]) -> None:
    edits, template = colour_edits(), "the first is {target}, the second {source}"
    texts = {f"the first is {to}, the second {of}": AXES[to] - AXES[of] for to in COLOURS for of in COLOURS if to != of}

    def recall(encoder: Any, edits: Edits, lambdas: list[float]) -> dict[str, float]:
        results = arithmetic(
            encoder, grid_images(), edits, lambdas=lambdas, difference_template=template, bootstrap=Bootstrap(0)
        )
        return {name: metric.value for name, metric in by_name(results).items() if name != "target_recall1"}

    encoder = make_encoder(texts=AXES | texts)
    unchanged, right = recall(encoder, edits, [0]), recall(encoder, edits, [1])
    assert unchanged == {"recall1_0": 0, "difference_recall1_0": 0}  # the nearest is its own twin
    assert right == {"recall1_1": 1, "difference_recall1_1": 1}
    swapped = replace(edits, sources=edits.targets, targets=edits.sources)
    assert recall(encoder, swapped, [1]) == {"recall1_1": 0, "difference_recall1_1": 0}
    turned = make_encoder(texts=AXES | {text: -axis for text, axis in texts.items()})
    assert recall(turned, edits, [1]) == {"recall1_1": 1, "difference_recall1_1": 0}


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
