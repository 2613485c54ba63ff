"""Lightning callbacks: evaluation each epoch, the table of results, and what a run leaves behind."""

from pcclip.callbacks.attribute_ranking import AttributeRanking, AttributeSet
from pcclip.callbacks.difference_texts import DifferenceTexts
from pcclip.callbacks.results import ResultsTable
from pcclip.callbacks.retrieval import Retrieval
from pcclip.callbacks.run_config import RunConfig
from pcclip.callbacks.save_model import SaveModel
from pcclip.callbacks.zero_shot import ZeroShot, ZeroShotSet

__all__ = [
    "AttributeRanking",
    "AttributeSet",
    "DifferenceTexts",
    "ResultsTable",
    "Retrieval",
    "RunConfig",
    "SaveModel",
    "ZeroShot",
    "ZeroShotSet",
]
