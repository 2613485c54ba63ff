"""A sweep over weight ensembles: each blend measured by the evaluation of a run's configuration."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jsonargparse import ArgumentParser

from pcclip.callbacks.evaluation import Evaluation
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.ensemble import blend
from pcclip.paths import existing_file
from pcclip.reports.plots import name_of
from pcclip.results import Result, unchanged
from pcclip.tasks import Evaluator
from pcclip.tools.output import ToolWarning
from pcclip.training_cli import PairCLI


def sweep(
    base: DifferenceCLIP, finetuned: DifferenceCLIP, config: str | Path, alphas: Sequence[float]
) -> dict[str, list[Result]]:
    """Measure `alpha * finetuned + (1 - alpha) * base` for each alpha.

    Args:
        base: The model before finetuning.
        finetuned: The model after it. It is changed: it ends as the last blend.
        config: Configuration of the run, for its evaluation.
        alphas: From 0 (base) to 1 (finetuned).

    Returns:
        The rows of each, under the names `base`, `finetuned` and `ensembled <alpha>`.

    Raises:
        FileNotFoundError: The configuration, or a file that it names, does not exist.
        ValueError: It has no evaluation, or the models are not alike.
    """
    before, after = base.state_dict(), {key: value.clone() for key, value in finetuned.state_dict().items()}
    blend(before, after, 0.0)  # models that are not alike are refused before any file is read
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


def read_evaluators(config: str | Path) -> list[Evaluator]:
    """Return what the evaluations of a training configuration measure; nothing else of it is made.

    Raises:
        FileNotFoundError: The configuration, or a file that it names, does not exist.
        ValueError: It has no evaluation.
    """
    existing_file(config, "configuration", "name the one that the model was finetuned with")
    evaluations = _EvaluationCLI("test", ["--config", str(config)]).evaluations
    if not evaluations:
        raise ValueError(f"{config}: trainer.callbacks has no Evaluation, so there is nothing to measure")
    return [evaluation.evaluator for evaluation in evaluations]


class _EvaluationCLI(PairCLI):
    """Reads a configuration and makes only its evaluations."""

    def instantiate_classes(self) -> None:
        """Make the evaluations."""
        found = [each for each in self.config.trainer.callbacks if each.class_path.rpartition(".")[2] == "Evaluation"]
        parser = ArgumentParser()
        parser.add_argument("--evaluations", type=list[Evaluation])
        settings = parser.parse_object({"evaluations": found})
        self.evaluations: list[Evaluation] = parser.instantiate_classes(settings).evaluations
