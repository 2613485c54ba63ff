"""`pcclip prompt`: comparative zero-shot classification of pictures without labels (arXiv 2409.09721, section 5)."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pcclip.commands.options import Ask, Prompt
from pcclip.datasets.annotations import read_comparatives
from pcclip.metrics.comparative_prompting import compared, pair_indices
from pcclip.metrics.protocol import Comparative
from pcclip.metrics.zero_shot import class_embeddings
from pcclip.paths import read_text
from pcclip.tools.gallery import Gallery
from pcclip.tools.inference import InferenceModel
from pcclip.tools.output import check_writable
from pcclip.tools.picture_command import draw_sheet, embed, prepare, write_outputs


class Prediction(NamedTuple):
    """The nearest and second nearest class of each of N pictures."""

    first: Tensor
    """Index of the nearest class, (N,)."""
    second: Tensor
    """Index of the second nearest class, (N,)."""
    cosine: Tensor
    """Cosine with the nearest class, (N,)."""
    margin: Tensor
    """This cosine minus that with the second nearest class, (N,)."""


def run(options: Prompt) -> None:
    """Classify, and write the table and the contact sheet."""
    classes = _classes(options.classes)
    output, pictures, model = prepare(options)
    if options.ask is not None:
        _ask(options.ask, classes, options.comparatives)
    comparatives = read_comparatives(options.comparatives) if options.comparatives else []
    gallery = embed(options, model, pictures)
    templates = [options.template] if isinstance(options.template, str) else options.template
    found = classify(model, gallery, classes, templates, comparatives, options.alpha)
    first, second = ([classes[index] for index in column.tolist()] for column in (found.first, found.second))
    for name, count in Counter(first).most_common():
        print(f"{count:>8}  {name}")
    if comparatives:
        changed = int((classify(model, gallery, classes, templates).first != found.first).sum())
        print(f"{changed} pictures changed their class by the {len(comparatives)} texts")
    order = sorted(range(len(first)), key=lambda index: (first[index], -float(found.margin[index])))
    sheet = draw_sheet(gallery, torch.tensor(order), first, f"{len(set(first))} classes", options.sheet)
    cosine, margin = ([f"{value:.6f}" for value in column.tolist()] for column in (found.cosine, found.margin))
    table = zip((picture.key for picture in gallery.pictures), first, cosine, second, margin, strict=True)
    drawn = write_outputs(output, ("path", "class", "cosine", "second", "margin"), table, sheet, gallery)
    print(f"{len(first)} pictures: {output} and {drawn}")


def _classes(given: str) -> list[str]:
    path = Path(given)
    names = read_text(path, "classes").splitlines() if path.is_file() else given.split(",")
    found = [name.strip() for name in names if name.strip()]
    if len(found) < 2 or len(set(found)) < len(found):
        raise ValueError(f"--classes {given}: give at least two different names, or a file with one name a line")
    return found


def _ask(ask: Ask, classes: list[str], file: str | None) -> None:
    """Ask the language model for the comparatives file. Answers that the file already has are not asked for again."""
    from data_prep.steps.class_texts import ClassTexts  # here: only --ask needs data_prep

    if file is None:
        raise ValueError("--ask needs --comparatives FILE, where the answers are cached")
    with tempfile.TemporaryDirectory() as scratch:
        names = Path(scratch) / "classes.txt"
        names.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
        ClassTexts(
            output=str(check_writable(file)),
            pairs=str(names),
            kind=ask.kind or ClassTexts.kind,
            model=ask.model,
            base_url=ask.base_url,
        ).run()


def classify(
    model: InferenceModel,
    gallery: Gallery,
    classes: Sequence[str],
    templates: Sequence[str],
    comparatives: Sequence[Comparative] = (),
    alpha: float = 0.8,
) -> Prediction:
    """Predict the class of each picture.

    Args:
        model: The model.
        gallery: N pictures.
        classes: At least two names, all different.
        templates: Prompts with `{}` for the class name.
        comparatives: Texts that say how classes differ. Empty: plain zero-shot classification.
        alpha: Weight of the plain class embedding, from 0 (only the texts) to 1.

    Raises:
        ValueError: A class given twice, a bad template, or a text about an unknown class.
    """
    model.warn_of_cuts([template.replace("{}", name) for template in templates for name in classes])
    embeddings = class_embeddings(model.clip, classes, templates)
    if comparatives:
        first, second = (part.to(embeddings.device) for part in pair_indices(classes, comparatives))
        texts = model.embed_texts([comparative.text for comparative in comparatives])
        embeddings = compared(embeddings, first, second, texts, alpha)
    tops = [(chunk.to(embeddings.device) @ embeddings.T).topk(2) for chunk in gallery.chunks()]
    cosines = torch.cat([top.values.cpu() for top in tops])
    places = torch.cat([top.indices.cpu() for top in tops])
    return Prediction(places[:, 0], places[:, 1], cosines[:, 0], cosines[:, 0] - cosines[:, 1])
