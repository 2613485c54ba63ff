"""Lightning callbacks: evaluation by tasks, the table of results, and what a run leaves behind."""

from pcclip.callbacks.checkpoint import Checkpoint
from pcclip.callbacks.data_monitor import DataMonitor
from pcclip.callbacks.evaluation import Evaluation
from pcclip.callbacks.predictions import Predictions
from pcclip.callbacks.results_table import ResultsTable
from pcclip.callbacks.run_config import RunConfig
from pcclip.callbacks.save_model import SaveModel
from pcclip.callbacks.training_progress import TrainingProgress

__all__ = [
    "Checkpoint",
    "DataMonitor",
    "Evaluation",
    "Predictions",
    "ResultsTable",
    "RunConfig",
    "SaveModel",
    "TrainingProgress",
]
