"""Images that Stable Diffusion generates with the model's text tower, moved along difference texts."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jsonargparse.typing import PositiveFloat, PositiveInt
from torch import Tensor
from tqdm import tqdm

from pcclip.command_line import need
from pcclip.datasets.texts import read_texts
from pcclip.metrics.clip_score import moved_images
from pcclip.metrics.protocol import Metric, Wording
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
    """Model that scores the images. Use the same one for all models, not a finetuned one."""
    factor: PositiveFloat = 1.0
    """Weight of the difference (lambda)."""
    seeds: list[int] = field(default_factory=lambda: list(range(8)))
    """Seeds of the noise; two images for each seed and difference text."""
    steps: PositiveInt = 30
    """Denoising steps."""
    side: PositiveInt | None = None
    """Width and height in pixels, a multiple of 8; the pipeline's own by default."""

    def prepare(self) -> None:
        if not self.seeds:
            raise ValueError(f"{self.name}: seeds is empty; give at least one seed")
        if self.side is not None and self.side % 8:
            raise ValueError(f"{self.name}: side={self.side}; must be a multiple of 8")
        self._attributes = read_texts(self.texts)
        if lacking := [name for name, texts in self._attributes.items() if not texts.prompts]:
            raise ValueError(f"{self.texts}: {lacking} have no `prompts`, which say what the images should show")
        check_pipeline(self.pipeline)
        need("diffusers", "generation")
        need("transformers", "generation")

    def measure(self, context: Context) -> Iterable[Metric]:
        with torch.random.fork_rng(devices=[]):  # new modules draw weights, on the CPU, before they are loaded
            judge = load_clip(**vars(self.judge)).to(context.model.device).eval()
            pipeline = load_pipeline(self.pipeline, context.model)
        pipeline.set_progress_bar_config(disable=True)
        cases = [
            (index, prompt, wording, texts.prompts)
            for index, (prompt, texts) in enumerate(self._attributes.items())
            for wording in texts.wordings
        ]
        moved: list[Tensor] = []
        targets: list[Wording] = []
        owners: list[int] = []
        hidden = not context.images.progress or rank() > 0
        for index, prompt, wording, own in tqdm(cases, "generating images", delay=3, leave=False, disable=hidden):
            pictures = generate(
                pipeline,
                prompt,
                wording.text,
                wording.reverse,
                (self.factor, -self.factor),
                seeds=self.seeds,
                steps=self.steps,
                side=self.side,
            )
            pixels = [torch.stack([judge.image_transform(each) for each in row]) for row in pictures.values()]
            images = torch.stack([judge.encode_images(row.to(judge.device)) for row in pixels], dim=1)
            moved += [images] * len(own)
            targets += own
            owners += [index] * len(own)
        return moved_images(judge, torch.stack(moved), targets, owners, bootstrap=context.bootstrap)
