"""`pcclip ensemble`."""

from dataclasses import dataclass, field

from jsonargparse.typing import ClosedUnitInterval

from pcclip.commands.command import DEMO, Command


@dataclass(kw_only=True)
class Ensemble(Command):
    """Blend two models in weight space: `alpha * finetuned + (1 - alpha) * base`.

    pcclip ensemble --base A --model B --alpha 0.5 --output DIR saves the blend;
    pcclip ensemble --base A --model B --sweep CONFIG --output DIR measures and plots many.
    """

    base: str
    """The model before finetuning."""
    pretrained: str | None = None
    """Weights of `--base`, if that is an open_clip name."""
    model: str = DEMO
    """The finetuned model."""
    alpha: ClosedUnitInterval | None = None
    """0 is the base, 1 the finetuned model."""
    sweep: str | None = None
    """Configuration of `pcclip fit`, whose evaluation measures the blends."""
    alphas: list[ClosedUnitInterval] = field(default_factory=lambda: [0, 0.25, 0.5, 0.75, 1])
    """Blends of the sweep."""
    output: str
    """A new folder."""
    overwrite: bool = False
    """Replace output that exists."""

    def run(self) -> None:
        """Blend, or sweep."""
        if (self.alpha is None) == (self.sweep is None):
            raise ValueError("give either --alpha or --sweep")
        from pcclip.atomic import atomic_folder
        from pcclip.lean_import import import_open_clip
        from pcclip.tools.output import new_folder

        new_folder(self.output, self.overwrite)
        import_open_clip()
        from pcclip.tools.open_model import load_model

        base = load_model(self.base, self.pretrained, "cpu").clip
        finetuned = load_model(self.model, device="cpu" if self.sweep is None else "auto").clip
        if self.alpha is not None:
            from pcclip.model.ensemble import ensemble
            from pcclip.model.loading import save_clip

            ensemble(base, finetuned, self.alpha)
            with atomic_folder(self.output) as target:
                save_clip(finetuned, target)
            print(f"{self.alpha:g} of {self.model} and {1 - self.alpha:g} of {self.base}: {self.output}")
            return
        from pcclip.reports.plots import METRICS, tradeoff_charts
        from pcclip.results import markdown_table, write_results
        from pcclip.tools.sweep import sweep

        results = sweep(base, finetuned, str(self.sweep), self.alphas)
        shown = {model: [row for row in rows if row.metric in METRICS] for model, rows in results.items()}
        with atomic_folder(self.output) as target:
            write_results(target / "results.json", results)
            for title, chart in tradeoff_charts(results).items():
                (target / f"{title.replace(': ', '_')}.svg").write_text(chart, encoding="utf-8")
        print(f"\n{markdown_table(shown)}\nall metrics and the plots: {self.output}")
