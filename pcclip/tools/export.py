"""`pcclip export`: write weights, tokenizer, preprocessing and model card for another library."""

from pathlib import Path
from typing import Any, Literal

import open_clip
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from pcclip import __version__
from pcclip.atomic import atomic_folder
from pcclip.command_line import need
from pcclip.commands.options import Export
from pcclip.hub import check_push, push
from pcclip.model.adapter_files import save_adapter
from pcclip.model.loading import HEAD_FILE, HUB, LOCAL, TEXT_CONFIG_FILE, save_clip
from pcclip.remote import local_file
from pcclip.results import markdown_table, read_results
from pcclip.tools.attributes import SHIPPED, Attribute, read_attribute
from pcclip.tools.inference import InferenceModel
from pcclip.tools.open_model import load_model, read_checkpoint
from pcclip.tools.output import claim

Format = Literal["open_clip", "huggingface", "onnx", "adapter"]
LIBRARIES: dict[Format, str] = {
    "open_clip": "open_clip",
    "huggingface": "transformers",
    "onnx": "onnx",
    "adapter": "peft",
}
SHOWN = (
    "clip",
    "trainable",
    "lora",
    "head",
    "difference_loss",
    "difference_weight",
    "caption_weight",
    "keep_weight",
    "logit_scale",
    "optimizer",
)
TEMPLATES = Environment(loader=PackageLoader("pcclip.tools", ""), undefined=StrictUndefined, keep_trailing_newline=True)


def run(options: Export) -> None:
    """Load the model, export it and, if wanted, upload it."""
    if options.push is not None:
        check_push(options.push, options.yes)
    claim(options.output, options.overwrite)
    axis = None if options.axis is None else read_attribute(options.axis, options.attributes or SHIPPED)
    model = load_model(options.model, options.pretrained, options.device)
    export(
        model,
        options.output,
        options.format,
        text_only=options.text_only,
        axis=axis,
        half=options.half,
        overwrite=options.overwrite,
        repository=options.push,
        license=options.license,
    )
    print(f"written to {options.output}")
    if options.push is not None:
        # files of an earlier model that would change this one
        stale = [HEAD_FILE, TEXT_CONFIG_FILE] if options.format == "open_clip" else []
        push(Path(options.output), options.push, "model", private=options.private, yes=options.yes, replaces=stale)


def export(
    model: InferenceModel,
    folder: str | Path,
    layout: Format,
    *,
    text_only: bool = False,
    axis: Attribute | None = None,
    half: bool = False,
    overwrite: bool = False,
    repository: str | None = None,
    license: str | None = None,
) -> None:
    """Write a folder that another library loads. Weights are safetensors or, for `onnx`, part of the models.

    Args:
        model: The model.
        folder: New folder.
        layout: `open_clip` for `local-dir:FOLDER`, `huggingface` for `CLIPModel.from_pretrained(FOLDER)`, `onnx` for
            onnxruntime, without torch, or `adapter` for the low-rank adapters of a checkpoint alone, in peft's layout.
        text_only: Export the text tower only; `huggingface` and `onnx` only.
        axis: Axis of a ranking model, result of `read_attribute`; `onnx` only.
        half: Half precision; `onnx` only.
        overwrite: Whether to replace an earlier export.
        repository: Repository on the Hugging Face Hub that the model card names, `USER/NAME`.
        license: Licence for the model card.

    Raises:
        FileExistsError: The folder exists.
        ValueError: The layout does not support the architecture or an option, a package is not installed, the model is not
            from a checkpoint with adapters, or the adapters for a repository belong to a model on this machine.
    """
    folder = Path(folder)
    if text_only and layout in ("open_clip", "adapter"):
        raise ValueError(f"{layout} cannot hold a text tower alone; use --format huggingface or onnx")
    if (axis is not None or half) and layout != "onnx":
        raise ValueError(f"--axis and --half are for --format onnx, not {layout}")
    if axis is not None and text_only:
        raise ValueError("--axis: a ranking model needs the image tower; leave --text_only out")
    with atomic_folder(claim(folder, overwrite)) as target:
        if layout == "open_clip":
            save_clip(model.clip, target)
        elif layout == "onnx":
            for package in ("onnx", "onnxscript", "onnxruntime", "transformers"):
                need(package, "onnx")
            from pcclip.tools.onnx_export import save_onnx  # here: onnx is optional

            direction = None if axis is None else model.axis(axis.wordings)
            save_onnx(model.clip, target, text_only=text_only, axis=direction, half=half)
        elif layout == "adapter":
            _export_adapter(model.source, target, repository)
        else:
            need("transformers", "huggingface")
            from pcclip.model.huggingface import save_huggingface  # here: transformers is optional

            save_huggingface(model.clip, target, text_only=text_only)
        card = model_card(
            model,
            repository or folder.name,
            layout,
            text_only,
            repository is not None,
            license,
            "" if axis is None else axis.name,
        )
        (target / "README.md").write_text(card, encoding="utf-8")


def _export_adapter(source: str, folder: Path, repository: str | None) -> None:
    state, settings = read_checkpoint(local_file(source)) if source.endswith(".ckpt") else ({}, {})
    if not settings.get("lora"):
        raise ValueError(f"{source}: --format adapter needs a checkpoint (.ckpt) of a run with model.lora")
    if others := settings["lora"]["others"]:
        raise ValueError(f"{source}: {others[0]} trained too, which adapters do not hold; use --format open_clip")
    base = settings["clip"]["name"]
    if repository is not None and (base.startswith(LOCAL) or base.endswith(".json")):
        raise ValueError(
            f"{source}: its adapters belong to {base}, which users of {repository} do not have; push the whole model with "
            f"--format open_clip, or train adapters of a model of open_clip or the Hub ({HUB}USER/NAME)"
        )
    save_adapter(state, settings["lora"], base, folder)


def model_card(
    model: InferenceModel, name: str, layout: Format, text_only: bool, pushed: bool, license: str | None, axis: str
) -> str:
    """Return the model card: Markdown with the front matter that model hubs read.

    It says how to load the model. If the run that saved the model is found, it also has the base model, the settings and
    the results.

    Args:
        model: The model.
        name: Name of the folder or repository.
        layout: Layout of the files.
        text_only: Whether it is the text tower only.
        pushed: Whether `name` is a repository.
        license: Licence for the front matter; None leaves it out.
        axis: Name of the axis of the ranking model; empty if there is none.
    """
    path = Path(model.source.removeprefix(LOCAL))
    config = run_configuration(path)
    settings = ""
    if config is not None:
        shown = {key: _without_paths(value) for key, value in config["model"].items() if key in SHOWN}
        shown["max_epochs"] = (config.get("trainer") or {}).get("max_epochs")
        settings = yaml.safe_dump({**shown, "seed_everything": config.get("seed_everything")}, sort_keys=False)
    results = path.parent / "results.json"
    return TEMPLATES.get_template("model_card.md.jinja").render(
        name=name,
        pushed=pushed,
        address=(HUB if pushed else LOCAL) + name,
        license=license,
        base=None if config is None else hub_name(config["model"]["clip"]),
        pretrained=None if config is None else _without_paths(config["model"]["clip"].get("pretrained")),
        library=LIBRARIES[layout],
        text_only=text_only,
        axis=axis,
        clip=model.clip,
        head=type(model.clip.head).__name__,
        source=_without_paths(model.source),
        version=__version__,
        settings=settings,
        results=markdown_table(read_results(results)) if settings and results.is_file() else "",
    )


def hub_name(clip: dict[str, Any]) -> str | None:
    """Return the name on the Hugging Face Hub of the CLIP that a run started from, None if it has none there."""
    name, pretrained = clip["name"], clip.get("pretrained")
    if name.startswith(HUB):
        return str(name.removeprefix(HUB))
    weights = open_clip.get_pretrained_cfg(name.replace("/", "-"), pretrained) if pretrained else {}
    return str(weights.get("hf_hub", "")).rstrip("/") or None


def run_configuration(path: Path) -> dict[str, Any] | None:
    """Return the configuration of the run that wrote a checkpoint or saved model; None if it is not found.

    For a checkpoint it is `config.yaml` in one of the two folders above. For a saved model it is the newest `config.yaml`
    below the parent folder whose `SaveModel` callback names the model's folder.
    """
    if path.suffix == ".ckpt":
        files = [folder / "config.yaml" for folder in path.absolute().parents[:2]]
    else:
        files = sorted(path.absolute().parent.rglob("config.yaml"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in filter(Path.is_file, files):
        config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        callbacks = config["trainer"].get("callbacks") or []
        saved = [each["init_args"]["folder"] for each in callbacks if each["class_path"].endswith(".SaveModel")]
        if path.suffix == ".ckpt" or path.name in {Path(folder).name for folder in saved}:
            return config
    return None


def _without_paths(value: Any) -> Any:
    """Replace absolute paths in a setting by their file names."""
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    path = Path(value.removeprefix(LOCAL)) if isinstance(value, str) else None
    return path.name if path is not None and path.is_absolute() else value
