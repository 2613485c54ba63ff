"""Evaluate weight ensembles of two models by the tasks of a training configuration."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pcclip.atomic import atomic_folder
from pcclip.callbacks.evaluation import Evaluation
from pcclip.command_line import ToolWarning
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.ensemble import blend
from pcclip.paths import existing_file
from pcclip.reports.plots import METRICS, name_of, tradeoff_charts
from pcclip.results import Result, markdown_table, unchanged, write_results
from pcclip.tasks import Evaluator
from pcclip.training_cli import PairCLI


def sweep(
    base: DifferenceCLIP, finetuned: DifferenceCLIP, config: str | Path, alphas: Sequence[float]
) -> dict[str, list[Result]]:
    """Evaluate `alpha * finetuned + (1 - alpha) * base` for each alpha.

    Args:
        base: The model before finetuning.
        finetuned: The model after finetuning. It is changed in place to the last blend.
        config: Training configuration; its `Evaluation` callbacks name the tasks.
        alphas: From 0 (base) to 1 (finetuned).

    Returns:
        Results of each blend, by name: `base`, `finetuned` or `ensembled <alpha>`.

    Raises:
        FileNotFoundError: The configuration, or a file that it names, does not exist.
        ValueError: The configuration has no `Evaluation`, or the models have different architectures.
    """
    before, after = base.state_dict(), {key: value.clone() for key, value in finetuned.state_dict().items()}
    blend(before, after, 0.0)  # raises for different architectures, before any file is read
    evaluators = read_evaluators(config)
    results: dict[str, list[Result]] = {}
    for alpha in sorted(set(alphas)):
        finetuned.load_state_dict(blend(before, after, alpha))
        rows = [row for evaluator in evaluators for row in evaluator.measure(finetuned)]
        results[name_of(alpha)] = [replace(row, alpha=alpha) for row in rows]
    if unchanged(results.get(name_of(0), []), results.get(name_of(1), [])):
        warnings.warn(
            "every number of the finetuned model equals the base's; check that the two models are the right ones, and if so "
            "train with a higher learning rate or for more steps",
            ToolWarning,
            stacklevel=2,
        )
    return results


def write_sweep(results: dict[str, list[Result]], folder: str | Path) -> None:
    """Write the results and their charts into a new folder, and print a table of the main metrics."""
    shown = {model: [row for row in rows if row.metric in METRICS] for model, rows in results.items()}
    with atomic_folder(folder) as target:
        write_results(target / "results.json", results)
        for title, chart in tradeoff_charts(results).items():
            (target / f"{title.replace(': ', '_')}.svg").write_text(chart, encoding="utf-8")
    print(f"\n{markdown_table(shown)}\nall metrics and the plots: {folder}")


def read_evaluators(config: str | Path) -> list[Evaluator]:
    """Return the evaluators of a training configuration, without its model and data.

    Raises:
        FileNotFoundError: The configuration, or a file that it names, does not exist.
        ValueError: The configuration has no `Evaluation`.
    """
    existing_file(config, "configuration", "name the one that the model was finetuned with")
    evaluations = _EvaluationCLI("test", ["--config", str(config)]).evaluations
    if not evaluations:
        raise ValueError(f"{config}: trainer.callbacks has no Evaluation, so there is nothing to measure")
    return [evaluation.evaluator for evaluation in evaluations]


class _EvaluationCLI(PairCLI):
    """CLI that instantiates only the `Evaluation` callbacks of a configuration."""

    def instantiate_classes(self) -> None:
        found = [each for each in self.config.trainer.callbacks if each.class_path.rpartition(".")[2] == "Evaluation"]
        self.evaluations: list[Evaluation] = self.made("callbacks", found)
