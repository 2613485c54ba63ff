"""A world of plain coloured squares and a module that embeds them, small enough to train in a second."""

import csv
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.data import DataLoader
from torchvision.transforms.functional import pil_to_tensor

from pcclip.results import Result
from pcclip.tasks import AttributeRanking, ZeroShot

WORDS = "the first is brighter darker than second a photo of red green blue yellow square"
VOCABULARY = WORDS.split()


def fingerprint(*weights: Tensor) -> str:
    return hashlib.sha256(str([weight.tolist() for weight in weights]).encode()).hexdigest()


class TinyModel(nn.Module):
    """An encoder of width 8: mean colour through a linear layer, texts as sums of word and position vectors."""

    has_image_tower = True

    def __init__(self, frozen: bool = True) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embed_dim = 8
        self.visual = nn.Linear(3, 8)
        self.words = nn.Embedding(len(VOCABULARY) + 1, 8)
        self.places = nn.Embedding(12, 8)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        self.visual.requires_grad_(not frozen)
        self.encoded = 0
        self.encoded_texts = 0

    @property
    def image_tower_frozen(self) -> bool:
        return not self.visual.weight.requires_grad

    @property
    def device(self) -> torch.device:
        return self.words.weight.device

    @property
    def image_fingerprint(self) -> str:
        return fingerprint(self.visual.weight, self.visual.bias)

    @property
    def text_fingerprint(self) -> str:
        return fingerprint(self.words.weight, self.places.weight)

    def require_image_tower(self, pictures: str) -> None:
        pass

    @staticmethod
    def image_transform(picture: Image.Image) -> Tensor:
        return pil_to_tensor(picture.resize((4, 4)))

    def encode_images(self, images: Tensor) -> Tensor:
        self.encoded += len(images)
        return normalize(self.visual(images.float().mean((2, 3)) / 255 - 0.5), dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        rows = []
        self.encoded_texts += len(texts)
        for text in texts:
            words = text.lower().rstrip(".").split()
            ids = torch.tensor([VOCABULARY.index(word) if word in VOCABULARY else len(VOCABULARY) for word in words])
            rows.append((self.words(ids) * self.places(torch.arange(len(ids)))).sum(0))
        return normalize(torch.stack(rows), dim=-1)

    def project(self, differences: Tensor) -> Tensor:
        return differences

    def difference(self, first: Tensor, second: Tensor) -> Tensor:
        return normalize(self.project(first - second), dim=-1)


class TinyModule(LightningModule):
    """Trains the tiny model's texts (and images, unless frozen) on brighter and darker greys."""

    def __init__(self, frozen: bool = True) -> None:
        super().__init__()
        self.model = TinyModel(frozen)

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        grey = batch[:, None, None, None].expand(-1, 3, 4, 4)
        images = self.model.encode_images(grey)
        brighter, darker = self.model.encode_texts(
            ["the first is brighter than the second", "the first is darker than the second"]
        )
        difference = self.model.difference(images[:1], images[1:])
        sign = (batch[0] - batch[1]).sign()
        return -(sign * difference @ (brighter - darker)).mean()

    def test_step(self, batch: Tensor, index: int) -> None:
        pass

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(torch.tensor([[250.0, 20.0], [40.0, 200.0], [90.0, 10.0], [5.0, 66.0]]), batch_size=None)

    def test_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(torch.zeros(1, 2), batch_size=None)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([parameter for parameter in self.parameters() if parameter.requires_grad], lr=0.05)


TEMPLATES = ["a photo of a {} square"]
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


def write_world(folder: Path, count: int = 23) -> None:
    """Pictures with a table of their brightness, texts, and class folders of colours."""
    (folder / "images").mkdir(parents=True)
    generator = torch.Generator().manual_seed(1)
    with (folder / "table.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "brightness", "split"])
        for index, value in enumerate(torch.rand(count, generator=generator).tolist()):
            level = round(255 * value)
            Image.new("RGB", (8, 8), (level, level, level)).save(folder / "images" / f"{index:03d}.png")
            writer.writerow([f"{index:03d}.png", f"{value:.4f}" if index else "", "a" if index % 2 else "b"])
    (folder / "texts.yaml").write_text(
        "brightness:\n"
        "- {text: The first is brighter than the second., reverse: The first is darker than the second.}\n"
        "- {text: the first square is brighter than the second, reverse: the first square is darker than the second}\n"
    )
    for name, colour in COLOURS.items():
        (folder / "classes" / name).mkdir(parents=True)
        for index in range(5):
            level = 255 - 20 * index
            picture = Image.new("RGB", (8, 8), tuple(level * part for part in colour))
            picture.save(folder / "classes" / name / f"{index}.png")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `write_world` fills."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a CPU trainer that writes to TensorBoard below `tmp_path`."""

    def make(callbacks: list[Callback], epochs: int = 2, **settings: Any) -> Trainer:
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": epochs,
            "callbacks": callbacks,
            "default_root_dir": tmp_path,
            "logger": TensorBoardLogger(tmp_path, name="logs", version="run"),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "log_every_n_steps": 1,
        }
        return Trainer(**{**defaults, **settings})

    return make


def ranking(world: Path, name: str = "world", **changes: Any) -> AttributeRanking:
    """Ranking of the world's pictures by brightness."""
    files = {"images": "images", "table": "table.csv", "texts": "texts.yaml"}
    return AttributeRanking(name=name, **{key: str(world / file) for key, file in files.items()} | changes)


def shot(world: Path, name: str = "colours", **changes: Any) -> ZeroShot:
    """Zero-shot classification of the world's colours."""
    return ZeroShot(name=name, **{"images": str(world / "classes"), "templates": TEMPLATES} | changes)


def by_name(results: Sequence[Result]) -> dict[str, Result]:
    """Results by the names that loggers use."""
    return {result.tag: result for result in results}
