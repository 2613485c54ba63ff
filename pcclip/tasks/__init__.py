"""Evaluation tasks: each is settings, files and a metric."""

from pcclip.tasks.analogies import Analogies
from pcclip.tasks.arithmetic import Arithmetic, Simat
from pcclip.tasks.attribute_ranking import AttributeRanking
from pcclip.tasks.comparative_prompting import ComparativePrompting
from pcclip.tasks.compositionality import Compositionality
from pcclip.tasks.difference_texts import DifferenceTexts
from pcclip.tasks.evaluate import Evaluator, evaluate
from pcclip.tasks.linear_probe import LinearProbe
from pcclip.tasks.retrieval import KarpathyRetrieval, Retrieval
from pcclip.tasks.task import Task
from pcclip.tasks.zero_shot import ZeroShot

__all__ = [
    "Analogies",
    "Arithmetic",
    "AttributeRanking",
    "ComparativePrompting",
    "Compositionality",
    "DifferenceTexts",
    "Evaluator",
    "KarpathyRetrieval",
    "LinearProbe",
    "Retrieval",
    "Simat",
    "Task",
    "ZeroShot",
    "evaluate",
]
