"""Write the results of the base, finetuned and weight-ensembled models on all tasks."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from pcclip.atomic import atomic_text
from pcclip.callbacks.evaluation import Evaluation, keep_values, model_of
from pcclip.model.averaging import averaged
from pcclip.model.ensemble import blend
from pcclip.model.sharding import gathered, load_whole_state, whole_state
from pcclip.reports.report import report_page
from pcclip.reports.sample_pairs import SamplePair, samples_file, write_samples
from pcclip.reports.summary import print_summary, results_page
from pcclip.results import Result, read_results, unchanged, write_results
from pcclip.run_folder import run_folder


class ResultsTable(Callback):
    """Write all results of `Evaluation` at the end of `fit` or `test`, and print the headlines.

    The base model is the model before the first step, also in a resumed run. Its results are therefore saved in
    checkpoints. With `alphas`, so are its trainable weights and buffers, which makes checkpoints larger. With
    Lightning's `WeightAveraging`, the finetuned model is the averaged one.

    In `test` with a checkpoint, results of the checkpoint's model (`finetuned`) and of its ensembles are added to the
    file, or replaced. The base model is from the checkpoint, or else as the configuration loads it. In `test` without a
    checkpoint, only the configured model is measured (`base`).

    Args:
        file: JSON file of rows. The Markdown tables are written next to it (`.md`).
        alphas: Also measure `alpha * finetuned + (1 - alpha) * base`, as models `ensembled <alpha>`.
        base: Name of the model before training.
        finetuned: Name of the model after training.
        report: Name of the HTML report next to `file` (`pcclip.reports.report`). Null: no report.
    """

    def __init__(
        self,
        file: str,
        alphas: list[float] | None = None,
        base: str = "base",
        finetuned: str = "finetuned",
        report: str | None = "report.html",
    ) -> None:
        for alpha in alphas or []:
            if not 0 < alpha < 1:
                raise ValueError(f"alphas: {alpha} is not between 0 (the base model) and 1 (the finetuned one)")
        self.file = file
        self.alphas = alphas or []
        self.base = base
        self.finetuned = finetuned
        self.report = report
        self._base_rows: list[Result] = []
        self._base_scores: list[tuple[float, float]] = []
        self._base_state: dict[str, Tensor] = {}
        self._trained: set[str] = set()
        self._at_end: dict[str, list[Result]] | None = None
        self._folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage in ("fit", "test") and not _evaluations(trainer):
            raise ValueError(f"ResultsTable({self.file}): trainer.callbacks has no Evaluation to fill it; add one")
        if stage == "test" and self.alphas:
            # the checkpoint, if there is one, is loaded after this, and `trainer.ckpt_path` is not known before either
            self._base_state = _cpu_copy(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the base model's weights if there is no checkpoint, since there are no ensembles to measure."""
        if not trainer.ckpt_path:
            self._base_state = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the base model's weights. A resumed run has them from its checkpoint."""
        if trainer.global_step > 0 and (not self._base_rows or (self.alphas and not self._base_state)):
            lacking = "column" if not self._base_rows else "weights"
            rank_zero_warn(
                f"ResultsTable: the checkpoint was made without this callback or without alphas, so there is no "
                f'"{self.base}" {lacking} for {self.file}, nor ensembles with it; train from the start to have them'
            )
            return
        if not self.alphas:
            return  # nothing will be blended, so no weights need to be kept
        present = _cpu_copy(pl_module)
        self._base_state = present if trainer.global_step == 0 else present | self._base_state
        frozen = {name for name, parameter in pl_module.named_parameters() if not parameter.requires_grad}
        self._trained = set(self._base_state) - frozen

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect the results from before training."""
        if trainer.global_step == 0:
            self._base_rows = _collect(trainer, 0.0)
            self._base_scores = _scores(_samples(trainer, pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the finetuned and the ensembled models, then write the table."""
        results = {self.base: self._base_rows} if self._base_rows else {}
        with averaged(trainer, pl_module):
            results[self.finetuned] = _measure(trainer, pl_module, 1.0)
            keep_values(
                trainer, results[self.finetuned], self._base_rows
            )  # the last values, also if the last epochs were not evaluated
            samples = _samples(trainer, pl_module)
            self._finish(trainer, pl_module, results)
        if trainer.is_global_zero and samples and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            scores = {self.base: self._base_scores, self.finetuned: _scores(samples)}
            alike = {model: found for model, found in scores.items() if len(found) == len(samples)}
            write_samples(samples_file(self.file), samples, alike)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        name, alpha = (self.finetuned, 1.0) if trainer.ckpt_path else (self.base, 0.0)
        known = read_results(self.file) if Path(self.file).is_file() else {}
        with averaged(trainer, pl_module):
            self._finish(trainer, pl_module, known | {name: _collect(trainer, alpha)})

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the report and print the headlines, after progress bars are closed and the model is saved."""
        results, self._at_end = self._at_end, None
        if results is None:
            return
        print_summary(results)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # declared nowhere in Trainer
            return
        file, numbers = Path(self.file), sum(map(len, results.values()))
        print(f"All {numbers} numbers with their intervals: {file.with_suffix('.md')} and {file}")
        if self.report is not None:
            for logger in trainer.loggers:
                logger.save()
            page = file.with_name(self.report)
            with atomic_text(page) as stream:
                stream.write(report_page([file], self._folder))
            print(f"The same with charts and pictures: {page}")

    def state_dict(self) -> dict[str, Any]:
        """Return the base model's rows, and those of its weights that train."""
        state = {key: value for key, value in self._base_state.items() if key in self._trained}
        rows = [asdict(row) for row in self._base_rows]
        return {"base_rows": rows, "base_scores": self._base_scores, "base_state": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._base_rows = [Result(**row) for row in state_dict["base_rows"]]
        self._base_scores = state_dict.get("base_scores", [])  # checkpoints of earlier versions have none
        if state_dict["base_state"]:
            self._base_state = {key: value.cpu() for key, value in state_dict["base_state"].items()}

    def _ensembled(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, list[Result]]:
        """Measure the weight ensembles, then restore the module's own weights."""
        if not self._base_state:
            return {}
        results = {}
        finetuned = _cpu_copy(pl_module)
        # Of a checkpoint only what trained is kept. Of adapters, whose update is B A and B starts at zero, only B is blended:
        # the blend of the merged weights.
        base = finetuned | {key: value for key, value in self._base_state.items() if ".lora_A." not in key}
        try:
            for alpha in self.alphas:
                load_whole_state(pl_module, blend(base, finetuned, alpha))
                results[f"ensembled {alpha:g}"] = _measure(trainer, pl_module, alpha)
        finally:
            load_whole_state(pl_module, finetuned)
        return results

    def _finish(self, trainer: Trainer, pl_module: LightningModule, results: Mapping[str, list[Result]]) -> None:
        if unchanged(results.get(self.base, []), results.get(self.finetuned, [])):
            rank_zero_warn(
                f'{self.file}: every number of "{self.finetuned}" equals that of "{self.base}", so training changed nothing '
                "that these tasks measure; raise model.optimizer.init_args.lr, or train for more steps (trainer.max_epochs)"
            )
        lasting = trainer.is_global_zero and not trainer.fast_dev_run  # type: ignore[attr-defined]  # declared nowhere in Trainer
        if lasting:
            write_results(self.file, results, results_page(results))  # so that these survive a failing ensemble
        results = {**results, **self._ensembled(trainer, pl_module)}
        self._folder = run_folder(trainer)
        if trainer.is_global_zero:
            self._at_end = results
        if lasting:
            write_results(self.file, results, results_page(results))


def _evaluations(trainer: Trainer) -> list[Evaluation]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # declared nowhere in Trainer
    return [callback for callback in callbacks if isinstance(callback, Evaluation)]


def _collect(trainer: Trainer, alpha: float) -> list[Result]:
    return [replace(row, alpha=alpha) for callback in _evaluations(trainer) for row in callback.rows]


def _measure(trainer: Trainer, pl_module: LightningModule, alpha: float) -> list[Result]:
    for callback in _evaluations(trainer):
        callback.measure(trainer, pl_module)
    return _collect(trainer, alpha)


def _samples(trainer: Trainer, pl_module: LightningModule) -> list[SamplePair]:
    return [sample for callback in _evaluations(trainer) for sample in callback.evaluator.samples(model_of(pl_module))]


def _scores(samples: list[SamplePair]) -> list[tuple[float, float]]:
    return [(sample.score, sample.reverse_score) for sample in samples]


def _cpu_copy(pl_module: LightningModule) -> dict[str, Tensor]:
    with gathered(pl_module):
        return {key: value.detach().cpu().clone() for key, value in whole_state(pl_module).items()}
