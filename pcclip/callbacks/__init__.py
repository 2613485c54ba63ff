"""Lightning callbacks: evaluation each epoch, the table of results, and what a run leaves behind."""

from pcclip.callbacks.analogies import Analogies, AnalogySet
from pcclip.callbacks.arithmetic import Arithmetic, EditSet, SimatSet
from pcclip.callbacks.attribute_ranking import AttributeRanking, AttributeSet
from pcclip.callbacks.checkpoint import Checkpoint
from pcclip.callbacks.comparative_prompting import ComparativePrompting, ComparativeSet
from pcclip.callbacks.compositionality import Compositionality, CompositionalitySet
from pcclip.callbacks.confused_pairs import ConfusedPairs, ConfusedSet
from pcclip.callbacks.data_monitor import DataMonitor
from pcclip.callbacks.difference_texts import DifferenceTexts
from pcclip.callbacks.linear_probe import LinearProbe, LinearProbeSet
from pcclip.callbacks.predictions import Predictions
from pcclip.callbacks.results import ResultsTable
from pcclip.callbacks.retrieval import KarpathySet, Retrieval
from pcclip.callbacks.run_config import RunConfig
from pcclip.callbacks.save_model import SaveModel
from pcclip.callbacks.zero_shot import ZeroShot, ZeroShotSet

__all__ = [
    "Analogies",
    "AnalogySet",
    "Arithmetic",
    "AttributeRanking",
    "AttributeSet",
    "Checkpoint",
    "ComparativePrompting",
    "ComparativeSet",
    "Compositionality",
    "CompositionalitySet",
    "ConfusedPairs",
    "ConfusedSet",
    "DataMonitor",
    "DifferenceTexts",
    "EditSet",
    "KarpathySet",
    "LinearProbe",
    "LinearProbeSet",
    "Predictions",
    "ResultsTable",
    "Retrieval",
    "RunConfig",
    "SaveModel",
    "SimatSet",
    "ZeroShot",
    "ZeroShotSet",
]
