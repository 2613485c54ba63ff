"""Images that Stable Diffusion generates with the model's text tower, moved along difference texts."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

import torch
from jsonargparse.typing import PositiveFloat, PositiveInt
from tqdm import tqdm

from pcclip.command_line import need
from pcclip.datasets.texts import read_texts
from pcclip.metrics.clip_score import moved_images
from pcclip.metrics.protocol import Metric
from pcclip.model.loading import ClipSource, load_clip
from pcclip.model.text_to_image import check_pipeline, generate, load_pipeline
from pcclip.processes import rank
from pcclip.tasks.task import Context, Task


@dataclass(kw_only=True)
class Generation(Task):
    """Images generated along a difference text and its reverse, judged by CLIPScore (`pcclip.metrics.clip_score`)."""

    kind: ClassVar[str] = "generation"
    final_only: ClassVar[bool] = True
    pipeline: str
    """Folder of a Stable Diffusion pipeline that was trained with the text tower of the base model."""
    texts: str
    """Attribute texts (`pcclip.datasets.texts.read_texts`). The name of an attribute is the prompt of the images, its wordings
    are the difference texts, and its prompts say what the moved images should show."""
    judge: ClipSource
    """Model that scores the images: the same one for all models, so not a finetuned one."""
    factor: PositiveFloat = 1.0
    """Weight of the difference (lambda)."""
    seeds: list[int] = field(default_factory=lambda: list(range(8)))
    """Seeds of the noise; two images for each seed and difference text."""
    steps: PositiveInt = 30
    """Denoising steps."""
    guidance: float = 7.5
    """Guidance scale."""
    side: PositiveInt | None = None
    """Width and height in pixels; the pipeline's own by default."""

    def prepare(self) -> None:
        attributes = read_texts(self.texts)
        if bare := [name for name, texts in attributes.items() if not texts.prompts]:
            raise ValueError(f"{self.texts}: {bare} have no `prompts`, which say what the images should show")
        self._cases = [
            (prompt, wording, target)
            for prompt, texts in attributes.items()
            for wording, target in product(texts.wordings, texts.prompts)
        ]
        check_pipeline(self.pipeline)
        need("diffusers", "generation")

    def measure(self, context: Context) -> Iterable[Metric]:
        judge = load_clip(**vars(self.judge)).to(context.model.device).eval()
        pipeline = load_pipeline(self.pipeline, context.model)
        pipeline.set_progress_bar_config(disable=True)
        moved = []
        for prompt, wording, _ in tqdm(self._cases, desc="generating images", delay=3, leave=False, disable=rank() > 0):
            pictures = generate(
                pipeline,
                prompt,
                wording.text,
                wording.reverse,
                (self.factor, -self.factor),
                seeds=self.seeds,
                steps=self.steps,
                guidance=self.guidance,
                side=self.side,
            )
            pixels = [torch.stack([judge.image_transform(each) for each in row]) for row in pictures.values()]
            moved.append(torch.stack([judge.encode_images(row.to(judge.device)) for row in pixels], dim=1))
        targets = [target for *_, target in self._cases]
        return moved_images(judge, torch.stack(moved), targets, bootstrap=context.bootstrap)
