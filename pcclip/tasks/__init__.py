"""Evaluation tasks: each is settings, files and a metric."""

from pcclip.tasks.arithmetic import Arithmetic, Simat
from pcclip.tasks.attribute_ranking import AttributeRanking
from pcclip.tasks.classes import Analogies, ZeroShot
from pcclip.tasks.comparative_prompting import ComparativePrompting
from pcclip.tasks.compositionality import Compositionality
from pcclip.tasks.evaluate import Evaluator, evaluate
from pcclip.tasks.generation import Generation
from pcclip.tasks.linear_probe import LinearProbe
from pcclip.tasks.shards import DifferenceTexts, KarpathyRetrieval, Retrieval
from pcclip.tasks.task import Task

__all__ = [
    "Analogies",
    "Arithmetic",
    "AttributeRanking",
    "ComparativePrompting",
    "Compositionality",
    "DifferenceTexts",
    "Evaluator",
    "Generation",
    "KarpathyRetrieval",
    "LinearProbe",
    "Retrieval",
    "Simat",
    "Task",
    "ZeroShot",
    "evaluate",
]
