"""`pcclip generate`."""

from dataclasses import dataclass, field

from jsonargparse.typing import PositiveInt

from pcclip.commands.command import ModelCommand


@dataclass(kw_only=True)
class Generate(ModelCommand):
    """Text-to-image along a difference: the prompt's embedding plus lambda times a difference text's.

    pcclip generate --pipeline DIR --prompt "a photo of a dog" --difference "the first dog is larger than the second"

    Needs the extra `generation`.
    """

    pipeline: str
    """Folder of a Stable Diffusion pipeline."""
    prompt: str
    """What is to be seen."""
    difference: str
    """How it, called the first, is to differ."""
    reverse: str = ""
    """The opposite text, which is subtracted."""
    lambdas: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0])
    """Factors of the difference; a row of pictures for each."""
    target: str | None = None
    """Text that CLIPScore judges by; by default the prompt."""
    judge: str | None = None
    """Model that judges; by default the one that generates."""
    steps: PositiveInt = 30
    """Denoising steps."""
    guidance: float = 7.5
    """Guidance scale."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3])
    """A picture for each, from the same noise for every lambda."""
    side: PositiveInt | None = None
    """Width and height in pixels; by default the pipeline's own."""
    output: str = "generated.png"
    """PNG file."""
    overwrite: bool = False
    """Replace output that exists."""

    def run(self) -> None:
        """Generate, judge, and write the sheet."""
        from pcclip.atomic import atomic_path
        from pcclip.tools.output import need, new_file

        output = new_file(self.output, ".png", self.overwrite)
        for package in ("diffusers", "transformers"):
            need(package, "generation")
        from pcclip import load
        from pcclip.data.picture_files import save_png
        from pcclip.metrics.protocol import Wording
        from pcclip.reports.contact_sheet import contact_sheet
        from pcclip.tools.generation import clip_score, generate, load_pipeline

        model = self.load_model()
        model.warn_of_cuts([self.prompt, self.difference, self.reverse])
        judge = load(self.judge, device=self.device) if self.judge else model
        pipeline = load_pipeline(self.pipeline, model)
        difference = Wording(self.difference, self.reverse)
        pictures = generate(
            pipeline,
            self.prompt,
            difference,
            self.lambdas,
            seeds=self.seeds,
            steps=self.steps,
            guidance=self.guidance,
            side=self.side,
        )
        target = self.target or self.prompt
        for factor, row in pictures.items():
            print(f"lambda {factor:g}: CLIPScore {clip_score(judge, row, target):.2f} with {target!r}")
        sheet = contact_sheet(
            [picture for row in pictures.values() for picture in row],
            [f"lambda {factor:g}" for factor, row in pictures.items() for _ in row],
            f"{self.prompt} + lambda x: {self.difference}",
            columns=len(self.seeds),
        )
        with atomic_path(output) as path:
            save_png(sheet, path)
        print(f"written to {output}")
