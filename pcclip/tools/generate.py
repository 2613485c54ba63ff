"""`pcclip generate`: text-to-image with arithmetic on text states (extra `generation`).

Stable Diffusion is conditioned on the hidden states of the prompt's tokens. Only the state at the end-of-text token of a
difference text was trained. So lambda times this state is added to every state of the prompt except the first one, which is
the same for all texts.
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

from pcclip.atomic import atomic_path
from pcclip.commands.options import Generate
from pcclip.data.picture_files import save_png
from pcclip.metrics.protocol import Wording
from pcclip.reports.contact_sheet import contact_sheet
from pcclip.tools.huggingface import save_huggingface
from pcclip.tools.inference import InferenceModel
from pcclip.tools.open_model import load_model
from pcclip.tools.output import claim


def run(options: Generate) -> None:
    """Generate images, print their CLIPScore, and write the contact sheet."""
    output = claim(options.output, options.overwrite, ".png")
    model = load_model(options.model, options.pretrained, options.device)
    model.warn_of_cuts([options.prompt, options.difference, options.reverse])
    judge = load_model(options.judge, device=options.device) if options.judge else model
    pictures = generate(
        load_pipeline(options.pipeline, model),
        options.prompt,
        Wording(options.difference, options.reverse),
        options.lambdas,
        seeds=options.seeds,
        steps=options.steps,
        guidance=options.guidance,
        side=options.side,
    )
    target = options.target or options.prompt
    for factor, row in pictures.items():
        print(f"lambda {factor:g}: CLIPScore {clip_score(judge, row, target):.2f} with {target!r}")
    sheet = contact_sheet(
        [picture for row in pictures.values() for picture in row],
        [f"lambda {factor:g}" for factor, row in pictures.items() for _ in row],
        f"{options.prompt} + lambda x: {options.difference}",
        columns=len(options.seeds),
    )
    with atomic_path(output) as path:
        save_png(sheet, path)
    print(f"written to {output}")


def load_pipeline(folder: str | Path, model: InferenceModel) -> Any:
    """Return a Stable Diffusion pipeline with the text encoder of the model.

    Raises:
        FileNotFoundError: The folder is missing or holds no pipeline.
        ValueError: Not a Stable Diffusion pipeline, or a text tower of another width or an unsupported architecture.
    """
    if not (Path(folder) / "model_index.json").is_file():
        raise FileNotFoundError(f"{folder}: not the folder of a diffusers pipeline; it has no model_index.json")
    with tempfile.TemporaryDirectory() as exported:
        save_huggingface(model.clip, Path(exported), text_only=True)
        encoder = CLIPTextModel.from_pretrained(exported)
        tokenizer = CLIPTokenizer.from_pretrained(exported)
    kind: Any = StableDiffusionPipeline  # diffusers is only partly typed
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
    """Generate images of a prompt, changed by a difference text.

    Args:
        pipeline: From `load_pipeline`.
        prompt: What the image shows.
        difference: The difference text and its reverse, which is subtracted unless it is empty.
        lambdas: Weights of the difference. 0 is the plain prompt.
        seeds: Seeds of the noise, the same for every lambda.
        steps: Denoising steps.
        guidance: Guidance scale.
        side: Width and height in pixels. Default: the pipeline's own.

    Returns:
        For each lambda, one image for each seed.
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
    """Return the CLIPScore of images and a text: 100 times their mean cosine, at least 0."""
    embeddings = judge.embed(pictures).embeddings
    return max(0.0, 100 * float((embeddings @ judge.embed_texts([text])[0].cpu()).mean()))


def _encode(pipeline: Any, text: str) -> tuple[Tensor, Tensor]:
    """Return the hidden states (1, L, W) of a text, padded to the context length, and the one at the end of the text (W,)."""
    length = pipeline.tokenizer.model_max_length
    ids = pipeline.tokenizer(
        text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    out = pipeline.text_encoder(ids.to(pipeline.device))
    return out.last_hidden_state, out.pooler_output[0]
