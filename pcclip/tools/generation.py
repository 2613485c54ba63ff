"""Text-to-image with arithmetic: a prompt's embedding plus lambda times a difference text's (extra `generation`).

Stable Diffusion is conditioned on the hidden state of each of the prompt's tokens. What a difference text says is in its
hidden state at the end-of-text token, the one that was trained; it is added to every state of the prompt but the first,
which is the same for all texts.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from pcclip.metrics.protocol import Wording
from pcclip.tools.huggingface import save_huggingface
from pcclip.tools.inference import InferenceModel


def load_pipeline(folder: str | Path, model: InferenceModel) -> Any:
    """Return a Stable Diffusion pipeline with the text encoder of the model.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: Not a pipeline, a text tower that Hugging Face cannot hold, or one of another width.
    """
    if not (Path(folder) / "model_index.json").is_file():
        raise FileNotFoundError(f"{folder}: not the folder of a diffusers pipeline; it has no model_index.json")
    with tempfile.TemporaryDirectory() as exported:
        save_huggingface(model.clip, Path(exported), text_only=True)
        encoder = CLIPTextModel.from_pretrained(exported)
        tokenizer = CLIPTokenizer.from_pretrained(exported)
    kind: Any = StableDiffusionPipeline  # diffusers has types in part only
    try:
        pipeline = kind.from_pretrained(folder, text_encoder=encoder, tokenizer=tokenizer)
    except (OSError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{folder}: not a Stable Diffusion pipeline ({error})") from error
    width, wanted = encoder.config.hidden_size, pipeline.unet.config.cross_attention_dim
    if width != wanted:
        raise ValueError(f"{folder}: made for text towers of width {wanted}, but {model.source} has {width}")
    pipeline.set_progress_bar_config(disable=None)
    return pipeline.to(model.clip.device)


def generate(
    pipeline: Any,
    prompt: str,
    difference: Wording,
    lambdas: Sequence[float],
    *,
    seeds: Sequence[int],
    steps: int = 30,
    guidance: float = 7.5,
    side: int | None = None,
) -> dict[float, list[Image.Image]]:
    """Generate pictures of a prompt, moved by a difference text.

    Args:
        pipeline: From `load_pipeline`.
        prompt: What is to be seen.
        difference: How what is wanted differs; its reverse is subtracted, unless it is empty.
        lambdas: Factors of the difference; 0 leaves the prompt as it is.
        seeds: One picture for each, from the same noise for every lambda.
        steps: Denoising steps.
        guidance: Guidance scale.
        side: Width and height in pixels; the pipeline's own if None.

    Returns:
        For each lambda a picture for each seed.
    """
    with torch.no_grad():
        states, _ = _encode(pipeline, prompt)
        nothing, _ = _encode(pipeline, "")
        _, shift = _encode(pipeline, difference.text)
        if difference.reverse:
            shift = shift - _encode(pipeline, difference.reverse)[1]
    pictures: dict[float, list[Image.Image]] = {}
    for factor in lambdas:
        moved = states.clone()
        moved[:, 1:] += factor * shift
        pictures[factor] = [
            pipeline(
                prompt_embeds=moved,
                negative_prompt_embeds=nothing,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=torch.Generator().manual_seed(seed),
                height=side,
                width=side,
            ).images[0]
            for seed in seeds
        ]
    return pictures


def clip_score(judge: InferenceModel, pictures: Sequence[Image.Image], text: str) -> float:
    """Return the CLIPScore of pictures with a text: 100 times their mean cosine, at least 0; any model may judge."""
    embeddings = judge.embed(pictures).embeddings
    return max(0.0, 100 * float((embeddings @ judge.embed_texts([text])[0].cpu()).mean()))


def _encode(pipeline: Any, text: str) -> tuple[Tensor, Tensor]:
    """Return the hidden states (1, L, W) of a text, padded to the context, and the one at its end (W,)."""
    length = pipeline.tokenizer.model_max_length
    ids = pipeline.tokenizer(
        text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    out = pipeline.text_encoder(ids.to(pipeline.device))
    return out.last_hidden_state, out.pooler_output[0]
