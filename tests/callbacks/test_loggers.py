"""Every logger gets the numbers, pictures and sample texts that TensorBoard gets."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from pcclip.callbacks import Evaluation
from pcclip.tasks import DifferenceTexts
from tests.helpers.world import TinyModule, ranking, shot
from tests.tasks.test_shards import text, write_shards

Found = tuple[dict[str, float], Counter[str], list[str]]  # last values, pictures of each name, sample tables
STRIP = "ranked/world/brightness"


class Recorder(Logger):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.pictures: Counter[str] = Counter()
        self.tables: list[str] = []

    name = version = save_dir = "recorded"  # type: ignore[assignment]

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.last |= metrics

    def log_hyperparams(self, params: Any) -> None:
        pass

    def finalize(self, status: str) -> None:
        pass


class RecordedWandb(Recorder, WandbLogger):
    """The calls of Weights & Biases, without the package."""

    experiment = None  # type: ignore[assignment]

    def log_image(self, key: str, images: list[Any], step: int | None = None, **_: Any) -> None:
        self.pictures.update([key] * len(images))

    def log_table(
        self, key: str, columns: Any = None, data: Any = None, dataframe: Any = None, step: Any = None
    ) -> None:
        assert key == "samples"
        assert {len(row) for row in data} == {len(columns)}
        self.tables.append(str(data))


class RecordedMLflow(Recorder, MLFlowLogger):
    """The calls of MLflow, without the package; it is its own client."""

    run_id = "run"  # type: ignore[assignment]

    @property
    def experiment(self) -> Any:
        class Client:
            def log_image(_, run_id: str, image: Any, *, key: str, step: int) -> None:
                self.pictures[key] += 1

            def log_text(_, run_id: str, text: str, artifact_file: str) -> None:
                self.tables.append(text)

        return Client()


def recorded(logger: Any, folder: Path) -> Found:
    return logger.last, logger.pictures, logger.tables


def read_tensorboard(folder: Path) -> Found:
    events = EventAccumulator(str(folder / "logs" / "run"))
    events.Reload()
    tags = events.Tags()
    texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("samples/text_summary")]
    last = {name: events.Scalars(name)[-1].value for name in tags["scalars"]}
    return last, Counter({name: len(events.Images(name)) for name in tags["images"]}), texts


def read_csv(logger: Any, folder: Path) -> Found:
    with (folder / "csv" / "run" / "metrics.csv").open(newline="") as stream:
        return {key: float(v) for row in csv.DictReader(stream) for key, v in row.items() if v}, Counter(), []


def read_wandb(logger: Any, folder: Path) -> Found:
    files = Path(logger.experiment.dir)
    last = dict(logger.experiment.summary)
    logger.experiment.finish()
    pictures = Counter(str(file.parent.relative_to(files / "media/images")) for file in files.rglob("*.png"))
    tables = [str(json.loads(file.read_text())["data"]) for file in files.rglob("*.table.json")]
    return last, Counter({f"{name}/brightness": count for name, count in pictures.items()}), tables


def read_mlflow(logger: Any, folder: Path) -> Found:
    last = logger.experiment.get_run(logger.run_id).data.metrics
    pictures = Counter(
        file.name.partition("+")[0].replace("~", "/") for file in folder.rglob("*.png") if "+" in file.name
    )
    return last, pictures, [file.read_text() for file in folder.rglob("samples/*.md")]


def make_wandb(folder: Path) -> Logger:
    pytest.importorskip("wandb")
    return WandbLogger(project="p", save_dir=str(folder), offline=True)


def make_mlflow(folder: Path) -> Logger:
    pytest.importorskip("mlflow")
    return MLFlowLogger("p", tracking_uri=f"sqlite:///{folder}/mlflow.db", artifact_location=str(folder / "artifacts"))


KINDS: dict[str, tuple[Callable[[Path], Logger], Callable[[Any, Path], Found]]] = {
    "csv": (lambda folder: CSVLogger(folder, "csv", "run"), read_csv),
    "recorded W&B": (lambda folder: RecordedWandb(), recorded),
    "recorded MLflow": (lambda folder: RecordedMLflow(), recorded),
    "W&B": (make_wandb, read_wandb),
    "MLflow": (make_mlflow, read_mlflow),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_logger_gets_what_tensorboard_gets(
    kind: str, world: Path, tmp_path: Path, make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, read = KINDS[kind]
    logger = make(tmp_path)
    shards = DifferenceTexts(name="held", shards=str(write_shards(tmp_path / "shards")))
    evaluation = Evaluation([ranking(world), shot(world), shards], resamples=5)
    make_trainer([evaluation], logger=[TensorBoardLogger(tmp_path, "logs", "run"), logger]).fit(TinyModule())
    scalars, pictures, texts = read_tensorboard(tmp_path)
    own_scalars, own_pictures, own_texts = read(logger, tmp_path)
    assert pictures == {STRIP: 3}
    assert len(texts) == 3
    names = {name for name in scalars if name.startswith(("summary/", "detail/"))}
    assert {"summary/colours_top1", "detail/base/colours_top1", "detail/zero_shot/colours/top1"} <= names
    assert {name: own_scalars[name] for name in names} == pytest.approx({name: scalars[name] for name in names})
    if kind != "csv":  # which holds numbers only; the pictures are in the run's folder
        assert own_pictures == pictures
        assert len(own_texts) == 3
        assert all(text("a", "b") in table and text("b", "a") in table for table in own_texts)
    assert (tmp_path / "logs" / "run" / "ranked_world_brightness.png").is_file()


def test_callbacks_may_monitor_headlines(world: Path, tmp_path: Path, make_trainer: Callable[..., Trainer]) -> None:
    name = "summary/colours_top1"
    best = ModelCheckpoint(tmp_path / "best", monitor=name, mode="max", save_top_k=-1, filename="{epoch}")
    stop = EarlyStopping(name, mode="max", patience=2, min_delta=2.0)  # which no accuracy reaches
    logger = CSVLogger(tmp_path, "csv", "run")
    trainer = make_trainer(
        [Evaluation([shot(world)], resamples=5), best, stop], epochs=9, enable_checkpointing=True, logger=logger
    )
    trainer.fit(TinyModule())
    assert trainer.current_epoch == stop.stopped_epoch + 1 == 3
    assert float(trainer.callback_metrics[name]) == pytest.approx(read_csv(logger, tmp_path)[0][name])
    assert best.best_model_score is not None
    assert len([*(tmp_path / "best").glob("*.ckpt")]) == 3
