"""Text-to-image generation with arithmetic on text states, by a Stable Diffusion pipeline (extra `generation`).

Stable Diffusion is conditioned on the hidden states of the prompt's tokens. Only the state at the end-of-text token of a
difference text was trained. So lambda times this state is added to every state of the prompt except the first one, which is
the same for all texts.
"""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pcclip.command_line import ToolWarning
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.huggingface import save_huggingface

_SAME_WORDS = 0.5  # mean cosine of the token embeddings of two text towers; of unrelated ones it is about 0


def check_pipeline(folder: str | Path) -> None:
    """Check that a folder holds a pipeline, without loading it.

    Raises:
        FileNotFoundError: The folder is missing or holds no pipeline.
    """
    if not (Path(folder) / "model_index.json").is_file():
        raise FileNotFoundError(
            f"{folder}: not the folder of a diffusers pipeline, it has no model_index.json; download one, such as "
            "stable-diffusion-v1-5/stable-diffusion-v1-5 of huggingface.co"
        )


def load_pipeline(folder: str | Path, clip: DifferenceCLIP) -> Any:
    """Return a Stable Diffusion pipeline with the text encoder of the model. Warn if it was trained with another one.

    Raises:
        FileNotFoundError: The folder is missing or holds no pipeline.
        ValueError: Not a Stable Diffusion pipeline, a damaged text encoder, or a text tower of another width or an
            unsupported architecture.
    """
    from diffusers import StableDiffusionPipeline  # here: optional, and slow to import
    from safetensors import SafetensorError
    from transformers import CLIPTextModel, CLIPTokenizer

    check_pipeline(folder)
    with tempfile.TemporaryDirectory() as exported:
        save_huggingface(clip, Path(exported), text_only=True)
        encoder = CLIPTextModel.from_pretrained(exported)
        tokenizer = CLIPTokenizer.from_pretrained(exported)
    kind: Any = StableDiffusionPipeline  # diffusers is only partly typed
    try:
        pipeline = kind.from_pretrained(folder, text_encoder=encoder, tokenizer=tokenizer)
    except (OSError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{folder}: not a Stable Diffusion pipeline ({error})") from error
    width, wanted = encoder.config.hidden_size, pipeline.unet.config.cross_attention_dim
    if width != wanted:
        raise ValueError(f"{folder}: made for text towers of width {wanted}, but {clip.name} has {width}")
    if (own := Path(folder, "text_encoder")).is_dir():
        try:
            original = CLIPTextModel.from_pretrained(own)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{own}: damaged or without weights; download it again, or remove it ({error})") from error
        models: tuple[Any, Any] = original, encoder
        theirs, ours = (model.get_input_embeddings().weight for model in models)
        if theirs.shape != ours.shape or F.cosine_similarity(theirs, ours).mean() < _SAME_WORDS:
            warnings.warn(
                f"{folder}: trained with another text tower, so it cannot read the text states of {clip.name}; use a model "
                "finetuned from its own one, which is ViT-L-14-quickgelu of openai for Stable Diffusion 1",
                ToolWarning,
                stacklevel=2,
            )
    pipeline.set_progress_bar_config(disable=None)
    return pipeline.to(clip.device)


def generate(
    pipeline: Any,
    prompt: str,
    text: str,
    reverse: str,
    lambdas: Sequence[float],
    *,
    seeds: Sequence[int],
    steps: int = 30,
    side: int | None = None,
) -> dict[float, list[Image.Image]]:
    """Generate images of a prompt, changed by a difference text. Computes in bfloat16 on GPUs.

    Args:
        pipeline: From `load_pipeline`.
        prompt: What the image shows.
        text: The difference text.
        reverse: The opposite text, which is subtracted unless it is empty.
        lambdas: Weights of the difference. 0 is the plain prompt.
        seeds: Seeds of the noise, the same for every lambda.
        steps: Denoising steps.
        side: Width and height in pixels. Default: the pipeline's own.

    Returns:
        For each lambda, one image for each seed.

    Raises:
        ValueError: The text states are not finite.
    """
    with torch.no_grad():
        states, _ = _encode(pipeline, prompt)
        nothing, _ = _encode(pipeline, "")
        _, shift = _encode(pipeline, text)
        if reverse:
            shift = shift - _encode(pipeline, reverse)[1]
    if not (states.isfinite().all() and shift.isfinite().all()):
        raise ValueError("text states are NaN or infinite; training diverged, or the weights are damaged")
    pictures: dict[float, list[Image.Image]] = {}
    device = pipeline.device.type
    for factor in lambdas:
        moved = states.clone()
        moved[:, 1:] += factor * shift
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            pictures[factor] = [
                pipeline(
                    prompt_embeds=moved,
                    negative_prompt_embeds=nothing,
                    num_inference_steps=steps,
                    generator=torch.Generator().manual_seed(seed),
                    height=side,
                    width=side,
                ).images[0]
                for seed in seeds
            ]
    return pictures


def _encode(pipeline: Any, text: str) -> tuple[Tensor, Tensor]:
    """Return the hidden states (1, L, W) of a text, padded to the context length, and the one at the end of the text (W,)."""
    length = pipeline.tokenizer.model_max_length
    ids = pipeline.tokenizer(
        text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    out = pipeline.text_encoder(ids.to(pipeline.device))
    return out.last_hidden_state, out.pooler_output[0]
