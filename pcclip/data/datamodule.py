"""The LightningDataModule: loaders of pair batches from shard folders."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt, PositiveInt
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from pcclip.data.collate import Draw
from pcclip.data.damage import DamageTally
from pcclip.data.folders import ShardFolder, expand, shares
from pcclip.data.groups import MAX_PIXELS
from pcclip.data.held_out import HeldOutBatches
from pcclip.data.loader import EpochLoader
from pcclip.data.stream import PairBatches


class PairDataModule(LightningDataModule):
    """Streams image pairs with their difference texts from group shards.

    Tokenizer and image transform come from the model. Pairs are drawn if the model has a difference loss, captions if it has
    a caption loss.

    Args:
        train: Shard folders to train on, required by `fit`: paths, which may have braces (`data/train-{000..012}`), addresses
            (`hf://datasets/USER/NAME/train`, `s3://`, `gs://`, `https://`), or `pipe:` and a command that writes the
            folder's file `{name}` to its output.
        val: Shard folders of held-out groups for the validation losses; optional. Without them, `test` runs only the
            evaluation callbacks. Every group is used, in batches of at most `groups_per_batch` groups that do not depend on
            the number of processes. `predict` uses all pairs.
        train_weights: Relative number of groups from each folder in each batch, by the folder's name in `train`. With
            `{data/llm: 4, data/composed: 3}` and `groups_per_batch: 7`, a batch has four and three groups. A name with
            braces is one entry for several folders. Null: groups are drawn uniformly from all folders. The length of an
            epoch does not depend on the weights. So an epoch may repeat groups of a small folder, and use only a part of
            a large one; the next epoch continues with the rest. A folder without pairs can have a weight of its own: then its
            captions are in every batch. Variables (`${run}`) are not replaced in names.
        groups_per_batch: Groups in a batch of each process. A group has up to G images, 16 by default.
        pairs_per_group: Ordered pairs drawn from each group in each epoch.
        captions_per_group: Captioned images drawn from each group; all G by default.
        both_directions: Whether to draw each pair together with its reverse. Each is the other's hardest negative, so every
            batch teaches that a text matches a difference and not its opposite. `pairs_per_group` must be even.
        role_swap: Probability of replacing a pair by its reverse, with "first" and "second" exchanged in its text. With
            `twins`, each pair and this reverse are in the same batch: the two texts differ only in these words and are each
            other's negatives. Half as many different pairs are then drawn. Pairs whose texts have neither word are skipped,
            unless the group has no others. `data/roleless` counts them.
        role_swap_epochs: Number of epochs in which `role_swap` rises from 0. Texts that mostly speak of the first image are
            learned much faster; the exchanged ones then teach "first" and "second".
        word_dropout: Probability of dropping each word of a training text or caption, drawn again in each epoch. It keeps a
            model from learning a few texts by heart. Role words ("first", "second") and negations are never dropped.
        shuffle_block: Number of groups that are shuffled together. A block spans a few neighbouring shards.
        num_workers: Worker processes that read, decode and tokenise; 0 for none.
        max_damaged: Maximum share of an epoch's images that may be lost by damage. Training stops above it.
        max_pixels: Images with more pixels are skipped.
        cache_dir: Folder for copies of remote shards.
        seed: Seed of all draws. The CLI sets it to `seed_everything`.
    """

    def __init__(
        self,
        train: list[str] | None = None,
        val: list[str] | None = None,
        train_weights: dict[str, PositiveInt] | None = None,
        groups_per_batch: PositiveInt = 8,
        pairs_per_group: PositiveInt = 32,
        captions_per_group: PositiveInt | None = None,
        both_directions: bool = False,
        role_swap: ClosedUnitInterval | Literal["twins"] = 0.0,
        role_swap_epochs: NonNegativeInt = 0,
        word_dropout: ClosedUnitInterval = 0.0,
        shuffle_block: PositiveInt = 1024,
        num_workers: NonNegativeInt = 2,
        max_damaged: ClosedUnitInterval = 0.05,
        max_pixels: PositiveInt = MAX_PIXELS,
        cache_dir: str = "data/cache",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.role_twins = role_swap == "twins"
        together = (1 + both_directions) * (1 + self.role_twins)
        if pairs_per_group % together:
            raise ValueError(
                f"data.pairs_per_group={pairs_per_group}: must be a multiple of {together}, since data.both_directions and "
                "data.role_swap=twins draw pairs together with their reverses and exchanged forms"
            )
        entries = [*(train or []), *(val or [])]
        self._entries = {name: str(number) for number, entry in enumerate(entries) for name in expand([entry])}
        self._train = expand(train or [])
        self._val = expand(val or [])
        self._captions_per_group = captions_per_group
        self._draw = Draw(
            groups_per_batch=groups_per_batch,
            pairs_per_group=pairs_per_group,
            captions_per_group=0,  # set when the folders are known
            both_directions=both_directions,
            role_swap=0.0 if role_swap == "twins" else role_swap,
            role_swap_epochs=role_swap_epochs,
            role_twins=self.role_twins,
            word_dropout=word_dropout,
            shares=shares(self._train, train_weights or {}, groups_per_batch),
            block=shuffle_block,
            seed=seed,
        )
        self._num_workers = num_workers
        self._max_damaged = max_damaged
        self._max_pixels = max_pixels
        self._cache = Path(cache_dir)
        self._folders: dict[str, ShardFolder] = {}
        self.train_loader: EpochLoader
        self.restarts_epoch = False

    def setup(self, stage: str) -> None:
        """Check that the shard folders fit the model."""
        assert self.trainer is not None
        module = self._module()
        towers: dict[str, str] = {}
        for folder in self.check_folders(stage, module.difference_weight, module.uses_captions):
            folder.info.check_tower(folder.name, module.model)
            if folder.info.embedding is not None:
                towers.setdefault(folder.info.embedding.fingerprint, f"{folder.name} by {folder.info.embedding.model}")
        if len(towers) > 1:  # possible without an image tower, whose fingerprint would be compared
            raise ValueError(f"embeddings of several image towers cannot be mixed: {', '.join(towers.values())}")

    def check_folders(self, stage: str, difference_weight: float, uses_captions: bool) -> list[ShardFolder]:
        """Open the shard folders that a stage needs, and check them as far as possible without the model.

        Raises:
            FileNotFoundError: A folder is missing.
            ValueError: No folder is named, or a folder has no pairs but they are needed.
        """
        if stage == "fit" and not self._train:
            raise ValueError("data.train is missing; name at least one shard folder to train on")
        if stage in ("validate", "predict") and not self._val:
            wanted = getattr(stage, "value", stage)  # Lightning passes an enum
            raise ValueError(f"data.val is empty, so there is nothing to {wanted} on; name a folder of held-out groups")
        folders = []
        for_captions = self._for_captions() if stage == "fit" and uses_captions else set()
        for name in [*(self._train if stage == "fit" else []), *self._val]:
            folder = self._folder(name)
            if stage == "predict" and not folder.info.pairs:
                raise ValueError(f"{name}: holds no pairs, so there is nothing to predict; leave it out of data.val")
            if difference_weight and not folder.info.pairs and name not in for_captions:
                raise ValueError(
                    f"{name}: holds no pairs, but model.difference_weight is {difference_weight}; leave the folder out, train "
                    "on captions alone with model.difference_weight=0, or on both with model.caption_weight above 0 and a "
                    "weight of the folder's own in data.train_weights"
                )
            folders.append(folder)
        return folders

    def _for_captions(self) -> set[str]:
        """Return the training folders without pairs that share their weight with no folder of pairs.

        A batch has a fixed number of groups of each weight. So all batches have the same number of pairs.
        """
        bare = [names for names, _ in self._draw.shares if not any(self._folder(name).info.pairs for name in names)]
        return set() if len(bare) == len(self._draw.shares) else {name for names in bare for name in names}

    def _module(self) -> Any:
        assert self.trainer is not None
        return self.trainer.lightning_module

    def _folder(self, name: str) -> ShardFolder:
        if name not in self._folders:
            folder = self._folders[name] = ShardFolder.open(name, self._cache, self._entries[name])
            if folder.cache is None:
                for problem in folder.info.wrong_sizes(Path(name)):
                    rank_zero_warn(f"damaged shard: {problem}; what can be read of it is used")
        return self._folders[name]

    def train_dataloader(self) -> EpochLoader:
        """Return shuffled batches, different in each epoch."""
        self.train_loader = self._loader(self._train)
        return self.train_loader

    def val_dataloader(self) -> EpochLoader | list[Any]:
        """Return batches of held-out pairs, the same in every epoch."""
        return self._loader(self._val, held_out=True) if self._val else []

    def test_dataloader(self) -> EpochLoader | DataLoader[Any] | list[Any]:
        """Like `val_dataloader`, but one empty batch without held-out pairs: Lightning runs no test without a batch."""
        return self.val_dataloader() if self._val else DataLoader([None], batch_size=None)  # type: ignore[arg-type]  # a list will do

    def predict_dataloader(self) -> EpochLoader:
        """Return every held-out pair once, with `rows` that identify the pairs."""
        return self._loader(self._val, held_out=True, every_pair=True)

    def teardown(self, stage: str) -> None:
        if hasattr(self, "train_loader"):
            self.train_loader.close()

    def on_exception(self, exception: BaseException) -> None:
        self.teardown("fit")

    def state_dict(self) -> dict[str, Any]:
        """Return what the batches of an epoch depend on. Lightning stores the number of consumed batches."""
        assert self.trainer is not None
        shards = [shard.sha256 for name in self._train for shard in self._folder(name).info.shards]
        return {
            "trainer.world_size": self.trainer.world_size,
            "data.seed": self._draw.seed,
            # Plain numbers: a checkpoint that is loaded without pickle cannot have subclasses of int.
            "data.groups_per_batch": int(self._draw.groups_per_batch),
            "data.shuffle_block": int(self._draw.block),
            "data.train_weights": [[share, *map(self._train.index, names)] for names, share in self._draw.shares]
            or None,
            "data.train": hashlib.sha256(" ".join(shards).encode()).hexdigest(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compare with the run that is resumed. If the batches have changed, set `restarts_epoch` for the module."""
        assert self.trainer is not None
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        present = self.state_dict().items()
        changed = [f"{key} ({state.get(key)} -> {value})" for key, value in present if state.get(key) != value]
        if changed:
            self.restarts_epoch = True
            rank_zero_warn(
                f"resumed with another {', '.join(changed)}: the batches differ from those before the interruption, so an "
                "unfinished epoch restarts; weights, optimiser and step count are kept"
            )

    def _loader(self, names: list[str], held_out: bool = False, every_pair: bool = False) -> EpochLoader:
        assert self.trainer is not None
        trainer, module = self.trainer, self._module()
        folders = [self._folder(name) for name in names]
        infos = [folder.info for folder in folders]
        images = sum(info.images for info in infos)
        captions = self._captions_per_group or max(info.group_size for info in infos)
        drawn: dict[str, Any] = {
            "pairs_per_group": self._draw.pairs_per_group if module.difference_weight else 0,
            "captions_per_group": captions if module.uses_captions else 0,
        }
        if held_out:
            drawn |= {
                "both_directions": False,
                "role_swap": 0.0,
                "role_twins": False,
                "word_dropout": 0.0,
                "fill": False,
            }
        else:
            images //= trainer.world_size
        if every_pair:
            drawn |= {"pairs_per_group": None, "captions_per_group": 0}
        stream = HeldOutBatches if held_out else PairBatches
        batches = stream(
            folders,
            module.model.image_transform,
            module.model.tokenizer,
            dataclasses.replace(self._draw, **drawn),
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            max_pixels=self._max_pixels,
        )

        def place() -> tuple[int, int]:
            if held_out:
                return 0, 0
            return trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready

        return EpochLoader(
            batches,
            place,
            DamageTally(self._max_damaged, images),
            num_workers=min(1, self._num_workers) if held_out else self._num_workers,
            persistent=not held_out,
        )
