"""Save CLIP as ONNX models, which run without torch: both towers and, for an axis, a ranking model.

The names of files, inputs and outputs are those of Hugging Face's own ONNX exports of CLIP.
"""

import copy
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer, get_clean_fn
from torch import Tensor, nn
from torch.nn import functional as F

from pcclip.command_line import ToolWarning
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.head import LinearHead
from pcclip.model.huggingface import clip_tokenizer

PREPROCESS_FILE = "preprocess.json"
TOKENIZER_FILE = "tokenizer.json"
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
INLINE_BYTES = 2_000_000_000  # an ONNX file holds less than 2 GiB; more weights are saved in a second file
TEXTS = ("a photo of a Dog", "It's the FIRST image   that shows more, 12 shapes & a cat's bowl (red).", "word " * 300)


class ImageTower(nn.Module):
    """Normalised pixels (N, 3, H, W) to unit embeddings (N, D) or, with an axis (D,), to scores (N,). All in float32."""

    axis: Tensor | None

    def __init__(self, towers: Any, axis: Tensor | None = None) -> None:
        super().__init__()
        self.towers = towers
        self.register_buffer("axis", axis)

    def forward(self, pixel_values: Tensor) -> Tensor:
        features = self.towers.encode_image(pixel_values.to(self.towers.logit_scale.dtype))
        embeddings = F.normalize(features.float(), dim=-1)
        return embeddings if self.axis is None else embeddings @ self.axis


class TextTower(nn.Module):
    """Token ids (N, L) of the full context length to unit embeddings (N, D) in float32."""

    def __init__(self, towers: Any) -> None:
        super().__init__()
        self.towers = towers

    def forward(self, input_ids: Tensor) -> Tensor:
        return F.normalize(self.towers.encode_text(input_ids).float(), dim=-1)


class Graph(NamedTuple):
    """A model to write, with example inputs for a batch of 3."""

    file: str
    module: nn.Module
    inputs: Tensor
    input_name: str
    output_name: str


def save_onnx(
    clip: DifferenceCLIP, folder: Path, *, text_only: bool = False, axis: Tensor | None = None, half: bool = False
) -> None:
    """Write ONNX models, `preprocess.json` and `tokenizer.json`. Check that onnxruntime computes the same embeddings.

    Args:
        clip: The model.
        folder: An empty folder.
        text_only: Write the text tower only.
        axis: Axis (D,) of a ranking model, whose scores are `head(image) . axis`.
        half: Whether weights and activations are half precision. Inputs and outputs are float32 in any case.

    Raises:
        ValueError: The model has no image tower, its head cannot be folded into the axis, torch cannot write a tower, or
            onnxruntime disagrees.
    """
    if not text_only:
        clip.require_image_tower("ONNX (`--text_only true` exports the text tower)")
    vector = None if axis is None else folded(clip, axis).cpu().float()
    towers = copy.deepcopy(clip.towers).cpu().float().eval()
    towers.visual.to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        expected = [graph.module(graph.inputs) for graph in _graphs(clip, towers, text_only, vector)]
    if half:
        towers.half()
    for graph, values in zip(_graphs(clip, towers, text_only, vector), expected, strict=True):
        _write(graph, folder / graph.file)
        _check(clip.name, graph, folder / graph.file, values, half)
    tokenize: Any = clip.tokenizer.tokenize
    settings = {
        **open_clip.get_model_preprocess_cfg(clip.towers),
        "size": _image_size(clip),
        "context_length": tokenize.context_length,
        "embed_dim": clip.embed_dim,
    }
    (folder / PREPROCESS_FILE).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    tokenizer = tokenizer_of(clip)
    if tokenizer is None:
        message = f"{clip.name}: its tokenizer cannot be saved as {TOKENIZER_FILE}; tokenise texts with open_clip"
        warnings.warn(message, ToolWarning, stacklevel=2)
    else:
        tokenizer.save(str(folder / TOKENIZER_FILE))


def folded(clip: DifferenceCLIP, axis: Tensor) -> Tensor:
    """Return the vector (D,) whose dot product with an image embedding is `head(image) . axis`.

    Raises:
        ValueError: The head is an MLP, which is not linear.
    """
    if isinstance(clip.head, nn.Identity):
        return axis
    if isinstance(clip.head, LinearHead):
        return clip.head.weight.detach().T @ axis
    raise ValueError(
        f"{clip.name}: its MLP head is not linear, so head and axis are no single vector; leave --axis out, or use a model "
        "with another head"
    )


def tokenizer_of(clip: DifferenceCLIP) -> Any:
    """Return the model's tokenizer as a `tokenizers.Tokenizer`, which cuts and pads to the context length.

    Only repaired encodings and HTML entities, which open_clip replaces in texts first, are not part of it.

    Returns:
        The tokenizer; None if it does not give the same token ids.
    """
    from tokenizers import Regex, Tokenizer, normalizers

    ours: Any = clip.tokenizer.tokenize
    expected = ours(list(TEXTS))
    if isinstance(ours, SimpleTokenizer):
        found = clip_tokenizer(clip).backend_tokenizer
        found.enable_truncation(ours.context_length)
        found.enable_padding(length=ours.context_length, pad_id=0, pad_token="!")
    elif isinstance(ours, HFTokenizer):
        found = Tokenizer.from_str(ours.tokenizer.backend_tokenizer.to_str())  # cuts and pads as in the call above
        clean = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        if ours.clean_fn is get_clean_fn("canonicalize"):
            punctuation = normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), "")
            clean = [normalizers.Replace("_", " "), punctuation, normalizers.Lowercase(), *clean]
        own = [] if found.normalizer is None else [found.normalizer]
        found.normalizer = normalizers.Sequence([*clean, *own])
    else:
        return None
    ids = [encoding.ids for encoding in found.encode_batch(list(TEXTS))]
    return found if ids == expected.tolist() else None


def _graphs(clip: DifferenceCLIP, towers: Any, text_only: bool, axis: Tensor | None) -> Iterator[Graph]:
    yield Graph("text_model.onnx", TextTower(towers), clip.tokenizer.tokenize(list(TEXTS)), "input_ids", "text_embeds")
    if text_only:
        return
    pixels = torch.randn(len(TEXTS), 3, *_image_size(clip), generator=torch.Generator().manual_seed(0))
    yield Graph("vision_model.onnx", ImageTower(towers), pixels, "pixel_values", "image_embeds")
    if axis is not None:
        yield Graph("ranking_model.onnx", ImageTower(towers, axis), pixels, "pixel_values", "scores")


def _image_size(clip: DifferenceCLIP) -> tuple[int, int]:
    """Return height and width."""
    size = clip.towers.visual.image_size
    return (size, size) if isinstance(size, int) else tuple(size)


def _write(graph: Graph, file: Path) -> None:
    weights = sum(weight.nbytes for weight in graph.module.parameters())
    try:
        with torch.no_grad():
            torch.onnx.export(
                graph.module.eval(),
                (graph.inputs[:2],),  # one alone would be taken for a fixed batch size
                file,
                dynamo=True,
                optimize=True,
                verbose=False,
                input_names=[graph.input_name],
                output_names=[graph.output_name],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=weights > INLINE_BYTES,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(
            f"{file.name}: torch {torch.__version__} cannot write this tower as ONNX; exports are tested with torch 2.11, and "
            "torch 2.6 writes no text tower"
        ) from error


def _check(name: str, graph: Graph, file: Path, expected: Tensor, half: bool) -> None:
    """Check batches of 1 and 3 in onnxruntime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if half:  # onnxruntime 1.32 crashes on a CPU in a later stage of its optimisation of half precision
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    for count in (1, len(expected)):
        (found,) = session.run(None, {graph.input_name: graph.inputs[:count].numpy()})
        difference = float(np.abs(found - expected[:count].numpy()).max())
        if not difference <= (HALF_TOLERANCE if half else TOLERANCE):  # also for NaN
            remedy = "leave --half out" if half else "install other versions of onnx, onnxscript and onnxruntime"
            raise ValueError(f"{name}: {graph.output_name} in onnxruntime differ by {difference:.1g}; {remedy}")
