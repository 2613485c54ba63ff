"""Options of the tool commands: one dataclass each. Its docstring is the command's help, its fields are the options.

Importing this module is cheap. Annotations are not postponed: to resolve postponed ones, jsonargparse would import torch.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from jsonargparse.typing import ClosedUnitInterval, PositiveInt

from pcclip.commands.shared_options import (
    DEMO,
    AxisOptions,
    EmbeddingOptions,
    ModelOptions,
    OutputOptions,
    PictureOptions,
    SheetOptions,
    VocabularyName,
)


@dataclass(kw_only=True)
class Rank(SheetOptions, AxisOptions):
    """Order pictures along an axis given in words, by examples or by both, most first: a table and a contact sheet.

    pcclip rank PICTURES --more TEXT --less TEXT, or pcclip rank PICTURES --attribute size
    pcclip rank PICTURES --high A.jpg B.jpg --low C.jpg D.jpg
    """

    several: ClassVar[dict[str, str]] = {
        "high": "pictures with much of it, instead of texts or with them",
        "low": "pictures with little of it",
    }

    high: list[str] = field(default_factory=list)
    low: list[str] = field(default_factory=list)
    blend: ClosedUnitInterval | None = None
    """Weight of the texts, if there are examples too. Null: texts that the model reads well and that
    order the examples correctly weigh more."""
    output: str = "ranked.csv"


@dataclass(kw_only=True)
class Classify(SheetOptions, AxisOptions):
    """Classify pictures by thresholds on one or more axes.

    pcclip classify PICTURES --attribute size --threshold 0
    pcclip classify PICTURES --attribute [size, count] --threshold '{size: 0, count: 0.02}'
    pcclip classify PICTURES --attribute size --examples examples.csv
    """

    output: str = "classified.csv"
    threshold: float | dict[str, float] | None = None
    """Score above which a picture has more, or a score for each axis by name. The mean picture scores 0."""
    examples: str | None = None
    """Table to choose the thresholds by: column `path`, and for each axis a column of 1 (more) and 0 (less)."""
    split: str | None = None
    """New folder for copies of the pictures, with a subfolder for each class."""


@dataclass(kw_only=True)
class Compare(ModelOptions, AxisOptions):
    """Say how two pictures differ: which has more of an attribute, or what of a vocabulary of 200 attributes fits best.

    pcclip compare A.jpg B.jpg --model MODEL
    pcclip compare A.jpg B.jpg --attribute size
    """

    positional: ClassVar[dict[str, str]] = {"pictures": "two pictures"}

    pictures: list[str]
    vocabulary: VocabularyName = "photographs"
    """Attributes to choose from; `world` for models of the embedded world, which know no other words."""
    count: PositiveInt = 8
    """Lines to print, those with the largest margins."""


@dataclass(kw_only=True)
class Search(PictureOptions):
    """Find pictures that differ from a given one as a text says: the nearest to `image + lambda * difference`.

    pcclip search PICTURES --image Q.jpg --text "the first picture is at night, the second by day"

    In the text, the wanted picture is the first and the given picture is the second.
    """

    image: str
    """Given picture."""
    text: str
    """How the wanted picture, the first, differs from it."""
    reverse: str | None = None
    """Opposite text. Its embedding is subtracted."""
    lambdas: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0])
    """Factors of the difference."""
    count: PositiveInt = 8
    """Results for each lambda."""
    engine: Literal["exact", "faiss"] = "exact"
    """faiss is approximate, for millions of pictures (extra `search`)."""
    output: str = "found.csv"


@dataclass
class Ask:
    """Language model that writes texts on how the classes differ, as `pcclip-data class_texts` does."""

    model: str
    """Name of the model at the endpoint."""
    base_url: str | None = None
    """OpenAI-compatible endpoint; OpenAI's own by default."""
    kind: str | None = None
    """What the classes are, for example flowers. It is part of the prompt."""


@dataclass(kw_only=True)
class Prompt(SheetOptions):
    """Classify pictures with texts on how the classes differ (comparative prompting).

    pcclip prompt PICTURES --classes "a cat,a dog"
    pcclip prompt PICTURES --classes classes.txt --comparatives comparatives.jsonl
    pcclip prompt PICTURES --classes classes.txt --comparatives comparatives.jsonl --ask.model NAME
    """

    classes: str
    """Class names separated by commas, or a file with one name a line."""
    template: str | list[str] = "a photo of a {}"
    """Prompt with {} for the class name. Several are averaged."""
    comparatives: str | None = None
    """JSON Lines file: first, second, text (describes first against second)."""
    ask: Ask | None = None
    """Language model that writes `--comparatives`. Answers are cached in that file, so nothing is asked twice."""
    alpha: ClosedUnitInterval = 0.8
    """Weight of the plain prompts; the texts of `--comparatives` have the rest."""
    output: str = "classes.csv"


@dataclass(kw_only=True)
class Ensemble(OutputOptions):
    """Blend two models in weight space: `alpha * finetuned + (1 - alpha) * base`.

    pcclip ensemble --base A --model B --alpha 0.5 --output DIR saves one blend;
    pcclip ensemble --base A --model B --sweep CONFIG --output DIR evaluates several and plots the results.
    """

    base: str
    """Model before finetuning."""
    pretrained: str | None = None
    """Weights of `--base`, if that is an open_clip name."""
    model: str = DEMO
    """Finetuned model."""
    alpha: ClosedUnitInterval | None = None
    """0 is the base, 1 the finetuned model."""
    sweep: str | None = None
    """Configuration of `pcclip fit` whose tasks evaluate the blends."""
    alphas: list[ClosedUnitInterval] = field(default_factory=lambda: [0, 0.25, 0.5, 0.75, 1])
    """Blends of the sweep."""
    output: str
    """New folder."""


@dataclass(kw_only=True)
class Export(ModelOptions, OutputOptions):
    """Save a model for another library: weights, tokenizer, preprocessing and model card.

    pcclip export --output DIR writes a folder; with --push USER/NAME it is also uploaded to the Hugging Face Hub.
    """

    format: Literal["open_clip", "huggingface", "onnx", "adapter"] = "open_clip"
    """open_clip (`local-dir:FOLDER`), huggingface (`CLIPModel.from_pretrained(FOLDER)`), onnx (extra `onnx`), or adapter: the
    low-rank adapters of a checkpoint alone, in peft's layout."""
    text_only: bool = False
    """Export the text tower only; huggingface and onnx only."""
    axis: str | None = None
    """Name of an attribute, such as size, for an ONNX model that scores images on it."""
    attributes: str | None = None
    """YAML file of attributes; by default the shipped one."""
    half: bool = False
    """Half precision, for GPUs; onnx only."""
    output: str = "exported"
    """New folder."""
    license: str | None = None
    """Licence for the model card, as the Hugging Face Hub names it: apache-2.0, mit, ..."""
    push: str | None = None
    """Repository on the Hugging Face Hub to upload the folder to, USER/NAME."""
    private: bool = False
    """Make the repository private when it is created."""
    yes: bool = False
    """Upload without a confirmation."""


@dataclass(kw_only=True)
class Generate(ModelOptions, OutputOptions):
    """Generate images from a prompt, moved by lambda times a difference text (extra `generation`).

    pcclip generate --pipeline DIR --prompt "a photo of a dog" --difference "the first dog is larger than the second"
    """

    packages: ClassVar[dict[str, str]] = {"diffusers": "generation", "transformers": "generation"}

    pipeline: str
    """Folder of a Stable Diffusion pipeline."""
    prompt: str
    """What the image shows."""
    difference: str
    """How it, called the first, differs."""
    reverse: str = ""
    """Opposite text. Its embedding is subtracted."""
    lambdas: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0])
    """Factors of the difference; one row of images for each."""
    target: str | None = None
    """Text for CLIPScore; the prompt by default."""
    judge: str | None = None
    """Model for CLIPScore; `--model` by default."""
    steps: PositiveInt = 30
    """Denoising steps."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3])
    """Seeds of the noise; one image for each seed and lambda."""
    side: PositiveInt | None = None
    """Width and height in pixels; the pipeline's own by default."""
    output: str = "generated.png"
    """PNG file."""


@dataclass(kw_only=True)
class Report(OutputOptions):
    """Write one HTML page on the results of runs: tables with intervals, the alpha trade-off, ranked pictures."""

    positional: ClassVar[dict[str, str]] = {"runs": "folders of runs, such as runs/demo, or results.json files"}

    runs: list[str]
    output: str = "report.html"
    """HTML file."""


@dataclass(kw_only=True)
class Demo(EmbeddingOptions):
    """Serve a page to try models on pictures: rank along an axis, search, compare, classify; two models side by side.

    pcclip demo photos --model runs/photos/finetuned --base runs/photos/base
    pcclip demo . --below true

    Each of PICTURES is a choice on the page. Visitors can reach no other files. Needs the extra `demo`.
    """

    packages: ClassVar[dict[str, str]] = {"gradio": "demo"}

    base: str | None = None
    """Model to compare with `--model` when the page opens."""
    below: bool = False
    """Offer all folders of pictures and saved models below PICTURES."""
    vocabulary: VocabularyName = "photographs"
    """Attributes and classes to begin with; `world` for models of the embedded world, which know no other words."""
    attribute: list[str] | None = None
    """Names of the attributes that are offered as buttons; by default four of the vocabulary."""
    attributes: str | None = None
    """YAML file of attributes; by default the shipped one."""
    classes: list[str] | None = None
    """Classes to begin with."""
    template: str = "a picture of a {}"
    """Text of a class, with {} for its name."""
    open: bool = False
    """Open the page in the browser."""
    host: str = "127.0.0.1"
    """Address to listen on; this machine only by default."""
    port: PositiveInt = 7860
    """Port to listen on."""
