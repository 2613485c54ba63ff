"""The model card that goes with an exported model: what it is, how to load it, what made it, and what it reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pcclip import __version__
from pcclip.metrics.tables import markdown_table
from pcclip.model.clip import DifferenceCLIP
from pcclip.tools.runs import Run

SHOWN = (
    "clip",
    "trainable",
    "head",
    "difference_loss",
    "difference_weight",
    "caption_weight",
    "logit_scale",
    "optimizer",
)
LOADING = {
    "open_clip": """import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:{folder}")
tokenizer = open_clip.get_tokenizer("local-dir:{folder}")""",
    "huggingface": """from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

model = CLIPModel.from_pretrained("{folder}")
tokenizer = CLIPTokenizer.from_pretrained("{folder}")
image_processor = CLIPImageProcessor.from_pretrained("{folder}")""",
    "huggingface text": """from transformers import CLIPTextModelWithProjection, CLIPTokenizer

model = CLIPTextModelWithProjection.from_pretrained("{folder}")  # or CLIPTextModel, for diffusers
tokenizer = CLIPTokenizer.from_pretrained("{folder}")""",
}


def model_card(clip: DifferenceCLIP, source: str, folder: Path, kind: str, run: Run | None) -> str:
    """Markdown with the front matter that model hubs read.

    Args:
        clip: The model.
        source: What it was loaded from.
        folder: Where it goes.
        kind: A key of `LOADING`.
        run: What is known of its training.
    """
    front = {
        "library_name": "open_clip" if kind == "open_clip" else "transformers",
        "tags": ["clip", "pcclip", "pairwise-differences"],
        "pipeline_tag": "zero-shot-image-classification",
    }
    if kind == "huggingface text":
        front["pipeline_tag"] = "feature-extraction"
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {folder.name}",
        "A CLIP model finetuned so that differences of image embeddings point where texts describing them point: "
        "`normalize(image(a) - image(b))` against the embedding of a text on how a differs from b. The method is that of "
        "[Finetuning CLIP to Reason about Pairwise Differences](https://arxiv.org/abs/2409.09721).",
        f"Embeddings have {clip.embed_dim} numbers. Exported from `{_shown(source)}` with pcclip {__version__}.",
        f"```python\n{LOADING[kind].format(folder=folder.name)}\n```",
    ]
    if type(clip.head).__name__ != "Identity":
        where = "in `difference_head.safetensors`" if kind == "open_clip" else "not in this folder"
        parts.append(
            f"The model has a difference head ({type(clip.head).__name__}), {where}: differences of images go through it "
            "before they are compared with texts."
        )
    parts += (
        _training(run)
        if run
        else ["No run configuration was found beside the model, so its training is not described."]
    )
    return "\n\n".join(parts) + "\n"


def _training(run: Run) -> list[str]:
    model: dict[str, Any] = run.config.get("model") or {}
    shown: dict[str, Any] = {key: _shown(model[key]) for key in SHOWN if key in model}
    shown["max_epochs"] = (run.config.get("trainer") or {}).get("max_epochs")
    shown["seed_everything"] = run.config.get("seed_everything")
    parts = [
        "## Training",
        f"From the run's configuration:\n\n```yaml\n{yaml.safe_dump(shown, sort_keys=False)}```",
    ]
    if run.results:
        parts += [
            "## Results",
            "Each number with its 95 % bootstrap interval; `n` is the number of items judged.",
            markdown_table(run.results).strip(),
        ]
    return parts


def _shown(value: Any) -> Any:
    """A setting without absolute local paths: their last part alone, wherever they stand in it."""
    if isinstance(value, dict):
        return {key: _shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    path = Path(value.removeprefix("local-dir:")) if isinstance(value, str) else None
    return path.name if path is not None and path.is_absolute() else value
