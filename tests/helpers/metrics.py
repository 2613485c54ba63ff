"""Metrics by name."""

from collections.abc import Iterable

from pcclip.metrics.protocol import Metric


def by_name(metrics: Iterable[Metric]) -> dict[str, Metric]:
    """Metrics by `part/name_factor`, without part or factor where there is none."""
    return {
        (f"{metric.part}/" if metric.part else "")
        + metric.name
        + ("" if metric.factor is None else f"_{metric.factor:g}"): metric
        for metric in metrics
    }
