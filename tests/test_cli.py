"""The command line: what is written in YAML or on the command line reaches the objects, and a run leaves what it should."""

import csv
import io
import json
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pcclip.cli import main
from pcclip.model import Exponential, WarmupCosine, load_clip
from pcclip.model.module import LitDifferenceCLIP
from pcclip.tools.open_model import load_model
from pcclip.training_cli import PairCLI

TRAINER: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "max_epochs": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
}


@pytest.fixture
def config(tmp_path: Path, shards: Path, tiny_config: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole configuration, as a file, that fits a tiny CLIP on tiny shards."""
    monkeypatch.chdir(tmp_path)  # where Lightning writes what nobody told it where to
    logger = {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": str(tmp_path / "runs"), "name": "fit", "version": "a", "default_hp_metric": False},
    }
    callbacks = [
        {"class_path": "pcclip.callbacks.SaveModel", "init_args": {"folder": str(tmp_path / "saved")}},
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"save_last": True}},
    ]
    file = tmp_path / "config.yaml"
    content = {
        "seed_everything": 3,
        "trainer": {**TRAINER, "logger": logger, "callbacks": callbacks},
        "model": {
            "clip": {"name": tiny_config},
            "trainable": ["text"],
            "head": "linear",
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01, "weight_decay": 0.1}},
            "schedule": {"class_path": "pcclip.model.WarmupCosine", "init_args": {"warmup": 0.5}},
        },
        "data": {
            "train": [str(shards)],
            "val": [str(shards)],
            "groups_per_batch": 2,
            "pairs_per_group": 3,
            "num_workers": 0,
        },
    }
    file.write_text(yaml.safe_dump(content))
    return file


def cli(*args: str) -> PairCLI:
    """Everything made, nothing run."""
    return PairCLI("fit", args)


def printed(*args: str) -> str:
    """What a command prints before it exits well."""
    stream = io.StringIO()
    with redirect_stdout(stream), pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == 0
    return stream.getvalue()


def test_files_and_flags_reach_the_objects(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precisions: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", precisions.append)
    later = tmp_path / "later.yaml"
    later.write_text("model: {caption_weight: 0.25, learn_logit_scale: true}\ndata: {role_swap: 0.5}\n")
    made = cli(
        *("--config", str(config), "--config", str(later), "--float32_matmul_precision=high"),
        *("--model.difference_loss=sigmoid", "--model.trainable=[text_last_1,image_projection]"),
        *("--model.optimizer.init_args.lr=0.125", "--model.schedule=pcclip.model.Exponential"),
        *("--model.schedule.init_args.gamma=0.75", "--model.chunk_size=4", "--model.grad_checkpointing=true"),
        *("--data.groups_per_batch=5", "--data.role_swap=0.125", "--trainer.accumulate_grad_batches=4"),
    )
    module, data = made.model, made.datamodule
    assert precisions == ["high"]
    assert (made.trainer.accumulate_grad_batches, made.trainer.max_epochs) == (4, 1)
    assert (module.caption_weight, module._loss_name, module.log_logit_scale.requires_grad) == (0.25, "sigmoid", True)
    trained = {
        name.split(".")[2] for name, value in module.named_parameters() if value.requires_grad and ".towers." in name
    }
    assert trained == {"transformer", "ln_final", "text_projection", "visual"}
    assert isinstance(module._schedule, Exponential)
    assert module._schedule.gamma == 0.75
    assert module.model.chunk_size == 4
    assert module.model.towers.transformer.grad_checkpointing
    assert module.model.towers.visual.transformer.grad_checkpointing
    optimizer = module._optimizer([torch.nn.Parameter(torch.zeros(1))])
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.125, 0.1)
    draw = data._draw
    assert (draw.groups_per_batch, draw.role_swap, draw.pairs_per_group, draw.seed) == (5, 0.125, 3, 3)


def test_a_run_in_mixed_precision_keeps_float32_weights(config: Path) -> None:
    chunks = ["--model.chunk_size=2", "--trainer.accumulate_grad_batches=2"]
    main(["fit", "--config", str(config), "--trainer.precision=bf16-mixed", *chunks])
    (saved,) = config.parent.glob("**/last.ckpt")
    state = torch.load(saved, weights_only=True)["state_dict"]
    assert all(value.dtype == torch.float32 for value in state.values() if value.is_floating_point())
    assert all(value.isfinite().all() for value in state.values())


def test_one_seed_governs_weights_and_data(config: Path) -> None:
    first, again, other = (cli("--config", str(config), *seed) for seed in ((), (), ("--seed_everything=4",)))
    weights = [made.model.model.towers.text_projection for made in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert [made.datamodule._draw.seed for made in (first, again, other)] == [3, 3, 4]


def test_printed_config_is_whole_and_runs_again(config: Path, tmp_path: Path) -> None:
    text = printed("fit", "--config", str(config), "--model.caption_weight=2", "--print_config")
    content = yaml.safe_load(text)
    assert content["model"]["caption_weight"] == 2
    assert content["model"]["logit_scale"] == 10
    assert content["data"]["shuffle_block"] == 1024
    (tmp_path / "printed.yaml").write_text(text)
    assert yaml.safe_load(printed("fit", "--config", str(tmp_path / "printed.yaml"), "--print_config")) == content


def test_variables_hold_over_files_and_flags(config: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(config.read_text())
    content["run"] = "in/the/file"
    content["trainer"]["callbacks"] = ["callback.yaml"]
    save = {"class_path": "pcclip.callbacks.SaveModel", "init_args": {"folder": "${run}/saved"}}
    (tmp_path / "callback.yaml").write_text(yaml.safe_dump(save))
    content["trainer"]["logger"]["init_args"]["save_dir"] = "${run}"
    config.write_text(yaml.safe_dump(content))
    variables = ["--run=given/later", "--model.caption_weight=${model.logit_scale}", "--model.logit_scale=7"]
    assert main(["fit", "--config", str(config), *variables]) == 0
    (folder,) = Path("given/later/fit").iterdir()
    load_clip("local-dir:given/later/saved")
    saved = (folder / "config.yaml").read_text()
    assert "${" not in saved
    assert yaml.safe_load(saved)["model"]["caption_weight"] == 7
    assert (
        yaml.safe_load(printed("fit", "--config", str(folder / "config.yaml"), "--print_config"))["run"]
        == "given/later"
    )


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("--model.logit_sale=3", "logit_sale"),
        ("--model.optimizer.init_args.learning_rate=3", "learning_rate"),
        ("--data.seed=1", "data.seed"),
        ("--config=wrong.yaml", "difference_wait"),
        ("--config=missing.yaml", "missing.yaml"),
        ("--model.head=${rum}", "rum"),
        ("--model.clip.name=ViT-L-15", "'ViT-L-15'"),
        ("--model.trainable=[texts]", "'texts'"),
        ("--data.train=[nowhere]", "nowhere"),
        ("--trainer.max_epochs=-3", "max_epochs"),
        ("--resume=true", "NumberedRuns.*--ckpt_path"),
        (
            '--tasks=[{"class_path": "Retrieval", "init_args": {"name": "mine", "shards": "s"}}]',
            "retrieval mine.*Evaluation",
        ),
    ],
)
def test_bad_settings_end_with_one_line(
    config: Path, argument: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wrong.yaml").write_text("model: {difference_wait: 1}\n")
    logger = ["--trainer.logger=tests.helpers.named_runs.NumberedRuns", "--trainer.logger.directory=runs"]
    logger.append("--trainer.logger.project=p")
    assert re.search(named, error_of(capsys, "fit", "--config", str(config), argument, *logger))


@pytest.mark.parametrize(
    ("callback", "monitor", "steps"), [("EarlyStopping", "zero_shot/shap/top1", 0), ("ModelCheckpoint", "val/los", 5)]
)
def test_monitored_metric_that_does_not_exist_ends_with_one_line(
    config: Path, callback: str, monitor: str, steps: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    taken: list[int] = []
    step = LitDifferenceCLIP.training_step
    monkeypatch.setattr(LitDifferenceCLIP, "training_step", lambda *args: (taken.append(1), step(*args))[1])
    chosen = json.dumps([{"class_path": f"lightning.pytorch.callbacks.{callback}", "init_args": {"monitor": monitor}}])
    line = error_of(capsys, "fit", "--config", str(config), f"--trainer.callbacks={chosen}")
    assert monitor in line
    assert "val/" in line
    assert len(taken) == steps


def error_of(capsys: pytest.CaptureFixture[str], command: str, *arguments: str) -> str:
    """The one line on stderr of a command that ends with code 2 (Lightning's own lines aside)."""
    capsys.readouterr()
    assert main([command, *arguments]) == 2
    printed = capsys.readouterr().err
    (line,) = [line for line in printed.splitlines() if line.startswith(f"pcclip {command}: error: ")]
    assert "Traceback" not in printed
    return line


def test_bugs_keep_their_traceback(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LitDifferenceCLIP, "losses", lambda *_: int("a bug"))  # a ValueError of Python's
    with pytest.raises(ValueError, match="a bug"):
        main(["fit", "--config", str(config)])


def test_inputs_are_checked_before_weights_are_loaded(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pcclip.model.module.load_clip", lambda *_, **__: pytest.fail("weights were loaded"))
    torch.save({"state_dict": {"weight": torch.zeros(9999)}}, "whole.ckpt")
    Path("cut.ckpt").write_bytes(Path("whole.ckpt").read_bytes()[:20_000])
    task = {"class_path": "pcclip.tasks.Retrieval", "init_args": {"name": "held", "shards": "misspelt/val"}}
    evaluation = {"class_path": "pcclip.callbacks.Evaluation", "init_args": {"tasks": [task]}}
    for commands, argument, named in (
        ("fit validate test predict", "--data.val=[nowhere]", "nowhere"),
        ("fit test", f"--trainer.callbacks+={json.dumps(evaluation)}", "misspelt/val"),
        ("fit test", "--ckpt_path=cut.ckpt", "cut.ckpt"),
        ("fit test", "--ckpt_path=none.ckpt", "none.ckpt"),
    ):
        for command in commands.split():
            assert named in error_of(capsys, command, "--config", str(config), argument)


def test_outputs_of_another_run_are_not_overwritten(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", "--config", str(config)]
    assert main(fit) == 0
    first = contents(tmp_path / "saved")
    line = error_of(capsys, *fit, "--trainer.logger.init_args.version=null", "--model.head=identity")
    assert str(tmp_path / "saved") in line
    assert "--overwrite true" in line
    assert contents(tmp_path / "saved") == first
    elsewhere = ["--trainer.callbacks=pcclip.callbacks.SaveModel", "--trainer.callbacks.folder=elsewhere"]
    assert str(Path("fit") / "a") in error_of(capsys, *fit, *elsewhere)  # the run's folder
    assert not Path("elsewhere").exists()
    own = next((tmp_path / "runs").rglob("last.ckpt"))
    other = shutil.copy(own, tmp_path / "other.ckpt")  # of another run, which lifts no check
    assert str(tmp_path / "saved") in error_of(capsys, *fit, "--ckpt_path", str(other), "--trainer.max_epochs=2")
    assert contents(tmp_path / "saved") == first
    for epochs, resume in (("2", ["--resume", "true"]), ("3", ["--ckpt_path", str(own)])):  # the same run goes on
        before = contents(tmp_path / "saved")
        assert main([*fit, f"--trainer.max_epochs={epochs}", *resume]) == 0
        assert contents(tmp_path / "saved") != before
    assert main([*fit, "--overwrite", "true"]) == 0
    assert contents(tmp_path / "saved") == first


@pytest.mark.parametrize("logger", ["false", "version"])
def test_predictions_of_another_run_are_not_overwritten(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], logger: str
) -> None:
    predict = ["predict", "--config", str(config), f"--trainer.default_root_dir={tmp_path / 'root'}"]
    predict += ["--trainer.logger=false"] if logger == "false" else []
    assert main(predict) == 0
    (file,) = tmp_path.rglob("predictions.jsonl")
    before = file.read_bytes()
    assert str(file.relative_to(tmp_path)) in error_of(capsys, *predict, "--model.head=identity", "--seed_everything=9")
    assert file.read_bytes() == before
    assert main([*predict, "--predictions.file=other.jsonl"]) == 0  # writes nothing there
    assert main([*predict, "--overwrite=true", "--seed_everything=9"]) == 0
    assert file.read_bytes() != before


def test_every_process_prints_its_errors(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lightning.pytorch.utilities.rank_zero_only.rank", 1)
    assert main(["fit", "--config", str(config), "--data.val=[nowhere]"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "nowhere" in line]
    assert line.startswith("rank 1: pcclip fit: error: ")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_fast_dev_run_leaves_nothing(config: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    checkpoint = {"class_path": "pcclip.callbacks.Checkpoint", "init_args": {"every_n_train_steps": 1}}
    callbacks = f"--trainer.callbacks+={json.dumps(checkpoint)}"
    for command in ("fit", "validate", "test", "predict"):
        assert main([command, "--config", str(config), callbacks, "--trainer.fast_dev_run=true"]) == 0
    assert contents(tmp_path) == before


LOGGERS = {
    "CSV": ["lightning.pytorch.loggers.CSVLogger", "save_dir=logs"],
    "TensorBoard": ["lightning.pytorch.loggers.TensorBoardLogger", "save_dir=logs"],
    "TensorBoard, kept elsewhere": ["lightning.pytorch.loggers.TensorBoardLogger", "save_dir=logs"],
    "named": ["tests.helpers.named_runs.NamedRuns", "directory=logs", "project=p"],
    "none": ["false"],
}


@pytest.mark.parametrize("logger", LOGGERS)
def test_a_run_goes_on_and_its_checkpoint_needs_no_other_file(config: Path, tmp_path: Path, logger: str) -> None:
    kind, *arguments = LOGGERS[logger]
    root = ["--trainer.default_root_dir=root", "--trainer.callbacks=pcclip.callbacks.Checkpoint"]
    root.append("--trainer.callbacks.every_n_train_steps=100")
    choice = [f"--trainer.logger={kind}", *(f"--trainer.logger.init_args.{each}" for each in arguments)]
    if elsewhere := "elsewhere" in logger:
        choice.append("--trainer.callbacks.dirpath=kept/checkpoints")
    fit = ["fit", "--config", str(config), *root, *choice, "--resume", "true"]
    assert main(fit) == 0
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 5
    assert main([*fit, "--trainer.max_epochs=2"]) == 0
    assert [*tmp_path.rglob("last.ckpt")] == [checkpoint]
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["global_step"] == 10
    if logger != "none" and not elsewhere:
        assert (checkpoint.parents[1] / "config.yaml").is_file()
    if logger == "CSV":  # whose first file Lightning would delete
        steps = set()
        for file in checkpoint.parents[1].glob("metrics*.csv"):
            with file.open(newline="") as stream:
                steps |= {int(row["step"]) for row in csv.DictReader(stream) if row.get("train/loss")}
        assert steps == set(range(10))
    (tmp_path / "moved").mkdir()
    settings = saved["pcclip_model"]["clip"]
    settings["name"] = "local-dir:no/longer/there"
    torch.save(saved, checkpoint)
    model = load_model(str(shutil.move(checkpoint, tmp_path / "moved"))).clip
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved["state_dict"][f"model.{name}"]), name


def test_learning_rate_finder_sets_the_rate_that_the_schedule_starts_from(config: Path, tmp_path: Path) -> None:
    finder = {"class_path": "lightning.pytorch.callbacks.LearningRateFinder", "init_args": {"num_training_steps": 20}}
    monitor = {
        "class_path": "lightning.pytorch.callbacks.LearningRateMonitor",
        "init_args": {"logging_interval": "step"},
    }
    callbacks = f"--trainer.callbacks={json.dumps([finder, monitor])}"
    halved = "--model.lr_factors={text: 0.5}"
    assert main(["fit", "--config", str(config), callbacks, "--trainer.max_epochs=6", halved]) == 0
    logged = sorted((t, v) for t, v in scalars(tmp_path / "runs" / "fit" / "a").items() if t.startswith("lr-"))
    matrices, rates, biases = (values for _, values in logged)  # of the text tower, the head, and the text tower
    assert rates[0] != pytest.approx(0.01)  # found, not the configured one
    # after the first step the configured schedule holds: half a warm-up, then half a cosine
    factors = [WarmupCosine(0.5).factor(step, 30, 5) for step in range(30)]
    expected = [rates[0] * factor for factor in factors[1:]]
    assert rates[1:] == pytest.approx(expected, rel=1e-4)
    assert matrices[1:] == biases[1:] == pytest.approx([rate / 2 for rate in expected], rel=1e-4)


def scalars(folder: Path) -> dict[str, list[float]]:
    """Every scalar that a run wrote for TensorBoard."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_fit_leaves_logs_config_checkpoint_and_model(config: Path, tmp_path: Path) -> None:
    fit = ["fit", "--config", str(config)]
    main([*fit, "--trainer.max_epochs=2"])
    folder = tmp_path / "runs" / "fit" / "a"
    written = scalars(folder)
    assert len(written["train/loss"]) == 10
    assert {"train/difference_loss", "train/sign_accuracy", "val/loss", "data/damaged"} <= written.keys()
    assert len(written["val/loss"]) >= 2
    assert "hp_metric" not in written
    assert not [tag for tag in written if tag.startswith("final/")]
    events = EventAccumulator(str(folder))
    events.Reload()
    assert "_hparams_/session_start_info" in events.summary_metadata
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["trainer"]["max_epochs"] == 2
    assert saved["seed_everything"] == 3
    again = printed("fit", "--config", str(folder / "config.yaml"), "--print_config")
    assert yaml.safe_load(again)["trainer"]["max_epochs"] == 2
    model = load_clip(f"local-dir:{tmp_path / 'saved'}")
    checkpoint = torch.load(next(folder.rglob("last.ckpt")), weights_only=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, checkpoint["state_dict"][f"model.{name}"]), name
    # Nothing in a checkpoint may override what the command line says.
    assert not checkpoint.get("hyper_parameters")
    assert not checkpoint.get("datamodule_hyper_parameters")

    # The same folder once more, resumed, with another setting.
    last = str(next(folder.rglob("last.ckpt")))
    main([*fit, "--trainer.max_epochs=3", "--model.caption_weight=1", "--ckpt_path", last])
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["caption_weight"] == 1
    assert len(scalars(folder)["train/loss"]) == 15
    assert len(scalars(folder)["train/caption_loss"]) == 5

    # And from the start again, as if nothing were there.
    main([*fit, "--overwrite", "true"])
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["caption_weight"] == 0

    # The saved model starts a run with its own head.
    main([*fit, f"--model.clip.name=local-dir:{tmp_path / 'saved'}", "--trainer.fast_dev_run=1"])


def test_the_other_commands_run(config: Path, tmp_path: Path) -> None:
    for command in ("validate", "test", "predict"):
        main([command, "--config", str(config), f"--trainer.logger.init_args.version={command}"])
        assert (tmp_path / "runs" / "fit" / command / "config.yaml").is_file()
    assert "val/loss" in scalars(tmp_path / "runs" / "fit" / "validate")
    assert "test/difference_loss" in scalars(tmp_path / "runs" / "fit" / "test")
    assert json.loads((tmp_path / "runs" / "fit" / "predict" / "predictions.jsonl").read_text().splitlines()[0])["text"]


def test_checkpoint_of_another_head_or_base_is_refused(
    config: Path, tmp_path: Path, tiny_config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fit", "--config", str(config), "--trainer.max_steps=1"])
    checkpoint = next((tmp_path / "runs").rglob("last.ckpt"))
    wider = json.loads(Path(tiny_config).read_text())
    wider["embed_dim"] *= 2
    (tmp_path / "wider.json").write_text(json.dumps(wider))
    test = ["test", "--config", str(config), "--trainer.logger.init_args.version=test", "--ckpt_path", str(checkpoint)]
    says = r"last\.ckpt: its weights do not fit .*--model\.head of the run, which are in .*/fit/a/config\.yaml"
    for change in ("--model.head=identity", f"--model.clip.name={tmp_path / 'wider.json'}"):
        assert re.search(says, error_of(capsys, *test, change))
    elsewhere = tmp_path / "away" / "from" / "its run"
    elsewhere.mkdir(parents=True)
    moved = shutil.copy(checkpoint, elsewhere)
    line = error_of(capsys, *test[:-1], str(moved), "--model.head=mlp")
    assert re.search(r"its run/last\.ckpt: .*--model\.head of the run$", line)


def test_run_goes_on_from_a_named_checkpoint_in_its_dirpath(config: Path, tmp_path: Path) -> None:
    checkpoint = ["--trainer.callbacks=pcclip.callbacks.Checkpoint", "--trainer.callbacks.every_n_train_steps=100"]
    fit = ["fit", "--config", str(config), *checkpoint, "--trainer.callbacks.dirpath=kept"]
    own = tmp_path / "kept" / "last.ckpt"
    assert main(fit) == 0
    assert main([*fit, "--ckpt_path", str(own), "--trainer.max_epochs=2"]) == 0
    assert torch.load(own, weights_only=True)["global_step"] == 10


def test_folder_of_other_things_is_refused_before_training(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "photo.png").touch()
    monkeypatch.setattr(LitDifferenceCLIP, "training_step", lambda *_: pytest.fail("trained"))
    assert str(tmp_path / "saved") in error_of(capsys, "fit", "--config", str(config), "--overwrite", "true")


def test_error_of_a_worker_is_one_line(config: Path, shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shard in shards.glob("*.tar"):
        shard.write_bytes(b"no tar" * 500)
    line = error_of(capsys, "fit", "--config", str(config), "--data.num_workers=1", "--data.val=null")
    assert "no usable group" in line
    assert "File" not in line
