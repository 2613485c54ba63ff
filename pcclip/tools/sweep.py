"""A sweep over weight ensembles: each blend measured by the evaluation callbacks of a run's configuration."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pcclip.callbacks.evaluation import EvaluationCallback
from pcclip.files import existing_file
from pcclip.metrics.protocol import Result
from pcclip.metrics.tables import unchanged
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.ensemble import blend
from pcclip.model.loading import save_clip
from pcclip.reports.tradeoff import name_of
from pcclip.tools.output import ToolWarning
from pcclip.training_cli import PairCLI


def sweep(
    base: DifferenceCLIP, finetuned: DifferenceCLIP, config: str | Path, alphas: Sequence[float], scratch: Path
) -> dict[str, list[Result]]:
    """Measure `alpha * finetuned + (1 - alpha) * base` for each alpha.

    Args:
        base: The model before finetuning.
        finetuned: The model after it.
        config: Configuration of the run, for its data and its evaluation callbacks.
        alphas: From 0 (base) to 1 (finetuned).
        scratch: A folder for the model that the configuration is made to load.

    Returns:
        The rows of each, under the names `base`, `finetuned` and `ensembled <alpha>`.

    Raises:
        FileNotFoundError: The configuration does not exist.
        ValueError: It has no evaluation callback, an alpha outside 0 to 1, or models that are not alike.
    """
    existing_file(config, "configuration", "name the one that the model was finetuned with")
    if wrong := [alpha for alpha in alphas if not 0 <= alpha <= 1]:
        raise ValueError(f"alpha {wrong[0]}: must be from 0 (base) to 1 (finetuned)")
    before, after = base.state_dict(), finetuned.state_dict()
    blend(before, after, 0.0)  # models that are not alike are refused before anything is loaded
    save_clip(finetuned, scratch)
    cli = PairCLI(
        "test",
        [
            *("--config", str(config), f"--model.clip.name=local-dir:{scratch}"),
            *("--model.clip.pretrained=null", "--model.clip.preprocess=null", "--model.head=identity"),
            *("--trainer.logger=false", "--trainer.enable_model_summary=false", "--trainer.devices=1"),
        ],
    )
    trainer: Any = cli.trainer  # declares its callbacks nowhere
    evaluations = [callback for callback in trainer.callbacks if isinstance(callback, EvaluationCallback)]
    if not evaluations:
        raise ValueError(f"{config}: trainer.callbacks has no evaluation callback, so there is nothing to measure")
    bars = [callback for callback in trainer.callbacks if callback is trainer.progress_bar_callback]
    trainer.callbacks = [*evaluations, *bars]
    results: dict[str, list[Result]] = {}
    for alpha in sorted(set(alphas)):
        cli.model.model.load_state_dict(blend(before, after, alpha))
        trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
        results[name_of(alpha)] = [row for callback in evaluations for row in callback.rows]
    if unchanged(results.get(name_of(0), []), results.get(name_of(1), [])):
        warnings.warn(
            "every number of the finetuned model equals the base's; check that the two models are the right ones, and if so "
            "train with a higher learning rate or for more steps",
            ToolWarning,
            stacklevel=2,
        )
    return results
