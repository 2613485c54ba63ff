"""Measuring models by tasks, with or without a Trainer."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from pcclip.command_line import raised_here
from pcclip.metrics.bootstrap import Bootstrap
from pcclip.model.clip import DifferenceCLIP
from pcclip.processes import rank
from pcclip.reports.sample_pairs import SamplePair
from pcclip.results import Result
from pcclip.tasks.images import ImageEmbeddings, evaluating
from pcclip.tasks.kept import KeptMetrics, StoredTexts
from pcclip.tasks.task import Context, Task


class Evaluator:
    """Measures models by tasks. Image embeddings are kept from model to model while the image tower is the same.

    Every process of a distributed run must call its methods, and every process computes the same numbers.

    Args:
        tasks: The tasks, each kind and name once.
        resamples: Bootstrap resamples for the 95 % intervals.
        seed: Seed of the resamples and of random subsets.
        batch_size: Images encoded at a time.
        num_workers: Processes that decode images.
        cache_dir: Folder in which embeddings are kept from run to run. Nothing is kept if it is not given.

    Raises:
        ValueError: No task, two of one kind and name, or a number below one.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        resamples: int = 1000,
        seed: int = 0,
        batch_size: int = 256,
        num_workers: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        titles = [task.title for task in tasks]
        if twice := sorted({title for title in titles if titles.count(title) > 1}):
            raise ValueError(f"tasks: {twice[0]} is given twice; give each task of a kind a name of its own")
        if not tasks or batch_size < 1 or resamples < 1:
            raise ValueError(
                f"{len(tasks)} tasks, batch_size={batch_size} and resamples={resamples}: each must be at least 1"
            )
        self.tasks = list(tasks)
        self.bootstrap = Bootstrap(resamples, seed)
        self.cache_dir = cache_dir
        self.images = ImageEmbeddings(batch_size, num_workers, cache_dir)
        self.kept = KeptMetrics(cache_dir)
        self._is_prepared = False

    def prepare(self) -> None:
        """Read and check the files of all tasks, once.

        Raises:
            FileNotFoundError, ValueError: As `Task.prepare`.
        """
        if not self._is_prepared:
            for task in self.tasks:
                task.prepare()
        self._is_prepared = True

    def check(self, model: DifferenceCLIP) -> None:
        """Check the files of all tasks against the model.

        Raises:
            ValueError: As `Task.check`.
        """
        with evaluating(model):
            for task in self.tasks:
                task.check(model)

    def measure(self, model: DifferenceCLIP, *, final: bool = True, lasting: bool = True) -> list[Result]:
        """Measure a model as it is.

        Args:
            model: The model.
            final: Also measure costly tasks, and compute intervals.
            lasting: Whether the model's weights are final, so that its embeddings may be kept in `cache_dir`. Embeddings of
                a frozen image tower are kept anyway.

        Raises:
            ValueError: Names the task: files that do not fit the model, or a model with embeddings that are not finite.
        """
        self.prepare()
        self.images.look_again()
        if final:
            self.check(model)
        results = []
        with evaluating(model):
            texts = StoredTexts(model, self.cache_dir) if lasting and self.cache_dir is not None else None
            for task in self.tasks:
                if task.final_only and not final:
                    continue
                try:
                    metrics = list(task.measure(self._context(task, model, final, lasting, texts)))
                except ValueError as error:
                    if not raised_here(error):
                        raise
                    raise ValueError(f"{task.title}: {error}") from error
                for metric in metrics:
                    subset = f"{task.name}/{metric.part}" if metric.part else task.name
                    numbers = (metric.value, metric.n, metric.low, metric.high, metric.factor)
                    results.append(Result(task.kind, subset, metric.name, *numbers))
        if texts is not None and rank() == 0:
            texts.save()
        return results

    def pictures(self, model: DifferenceCLIP) -> dict[str, Image.Image]:
        """Return the pictures of all tasks by name, such as `demo/size`; of the first process only."""
        self.images.look_again()
        with evaluating(model):
            return {
                f"{task.name}/{name}": picture
                for task in self.tasks
                for name, picture in task.pictures(self._context(task, model, False, False, None)).items()
            }

    def samples(self, model: DifferenceCLIP) -> list[SamplePair]:
        """Return the sample pairs of all tasks, the same for every model."""
        self.prepare()
        self.images.look_again()
        with evaluating(model):
            return [
                sample for task in self.tasks for sample in task.samples(self._context(task, model, False, False, None))
            ]

    def _context(
        self, task: Task, model: DifferenceCLIP, final: bool, lasting: bool, texts: StoredTexts | None
    ) -> Context:
        return Context(
            title=task.title,
            model=model,
            encoder=texts or model,
            final=final,
            bootstrap=self.bootstrap if final else Bootstrap(0, self.bootstrap.seed),
            kept=self.kept,
            images=self.images,
            store=lasting or model.image_tower_frozen,
        )


def evaluate(model: DifferenceCLIP, tasks: Sequence[Task], **settings: Any) -> list[Result]:
    """Measure a model by tasks, without a Trainer.

    Args:
        model: The model.
        tasks: The tasks.
        settings: `resamples`, `seed`, `batch_size`, `num_workers` and `cache_dir` of `Evaluator`.

    Raises:
        FileNotFoundError: A file of a task is missing.
        ValueError: As `Evaluator.measure`, or files of a task that do not fit together.
    """
    return Evaluator(tasks, **settings).measure(model)
