"""Blend two models in weight space: `alpha * finetuned + (1 - alpha) * base`.

pcclip ensemble --base A --model B --alpha 0.5 --output DIR             saves the blend
pcclip ensemble --base A --model B --sweep CONFIG --output DIR          measures and plots many
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from pcclip.tools.commands.common import DEMO, add_overwrite

ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("--base", required=True, metavar="MODEL", help="the model before finetuning")
    parser.add_argument("--pretrained", metavar="TAG", help="weights of --base, if that is an open_clip name")
    parser.add_argument("--model", default=DEMO, help="the finetuned model (default: %(default)s)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--alpha", type=float, help="0 is the base, 1 the finetuned model")
    what.add_argument(
        "--sweep", metavar="CONFIG", help="measure blends by the evaluation callbacks of this configuration"
    )
    parser.add_argument("--alphas", type=float, nargs="+", metavar="X", help=f"of the sweep (default: {ALPHAS})")
    parser.add_argument("--output", required=True, metavar="DIR", help="a new folder")
    add_overwrite(parser)


def run(options: argparse.Namespace) -> None:
    """Check the options, then blend or sweep."""
    if options.alphas and options.alpha is not None:
        raise ValueError("--alphas belongs to --sweep")
    if options.alpha is not None and not 0 <= options.alpha <= 1:
        raise ValueError(f"--alpha {options.alpha}: must be from 0 (base) to 1 (finetuned)")
    from pcclip.atomic import atomic_folder
    from pcclip.tools.output import new_folder

    new_folder(options.output, options.overwrite)
    from pcclip.lean_import import import_open_clip

    import_open_clip()
    from pcclip.tools.loading import load_model

    base = load_model(options.base, options.pretrained, "cpu").clip
    finetuned = load_model(options.model, device="cpu").clip
    if options.alpha is not None:
        from pcclip.model.ensemble import ensemble
        from pcclip.model.loading import save_clip

        ensemble(base, finetuned, options.alpha)
        with atomic_folder(options.output) as target:
            save_clip(finetuned, target)
        print(f"{options.alpha:g} of {options.model} and {1 - options.alpha:g} of {options.base}: {options.output}")
        return
    from pcclip.metrics.tables import markdown_table, write_results
    from pcclip.reports.tradeoff import METRICS, tradeoff_charts
    from pcclip.tools.sweep import sweep

    with tempfile.TemporaryDirectory() as scratch:
        results = sweep(base, finetuned, options.sweep, options.alphas or ALPHAS, Path(scratch))
    shown = {model: [row for row in rows if row.metric in METRICS] for model, rows in results.items()}
    with atomic_folder(options.output) as target:
        write_results(target / "results.json", results)
        for title, chart in tradeoff_charts(results).items():
            (target / f"{title.replace(': ', '_')}.svg").write_text(chart, encoding="utf-8")
    print(f"\n{markdown_table(shown)}\nall metrics and the plots: {options.output}")
