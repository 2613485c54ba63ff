"""Vectors of captions or images by a tower, for dealing images that are alike into the same group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.random_projection import GaussianRandomProjection

from data_prep.files import Row, image_path
from data_prep.images import read_bytes
from data_prep.steps.similar import WIDTH, Indices, Vectors, chunks
from pcclip.data.pictures import UnreadableImageError, decode
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.loading import load_clip


def embed_by_model(
    captions: Path, chosen: Indices, *, name: str, pretrained: str | None, by: str, seed: int
) -> Vectors:
    """Unit vectors (N, D) of the chosen rows of `captions` by a tower, reduced to D of at most 128.

    Args:
        captions: The `captions.jsonl`.
        chosen: Positions of rows, ascending.
        name: The model, as `pcclip.model.loading.load_clip` takes it.
        pretrained: Its weights, where the name does not carry them.
        by: `captions` (mean of the unit embeddings of an image's captions; zero without captions) or `images`.
        seed: Seed of the reduction.

    Raises:
        FileNotFoundError: A file of the model or an image is missing.
        ValueError: An image cannot be read, or the model is unknown or has random weights.
    """
    if not (pretrained or name.startswith(("local-dir:", "hf-hub:"))):
        raise ValueError(
            f"pairs.model: {name} comes without weights; give `pretrained`, or as model a folder that carries its own "
            "(`local-dir:FOLDER`)"
        )
    model = load_clip(name, pretrained).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    embed_rows = embed_images if by == "images" else _embed_captions
    # A random projection keeps distances well enough, and unlike a fitted one needs no second look at the images.
    narrow = model.embed_dim > WIDTH
    projection = GaussianRandomProjection(WIDTH, random_state=seed)
    vectors = np.zeros((len(chosen), min(WIDTH, model.embed_dim)), np.float32)
    start = 0
    for rows in chunks(captions, chosen):
        found = embed_rows(model, captions, rows)
        if narrow:
            found = projection.transform(found) if start else projection.fit_transform(found)
        vectors[start : start + len(rows)] = _unit(found)
        start += len(rows)
    return vectors


def _embed_captions(model: DifferenceCLIP, _: Path, rows: list[Row]) -> Vectors:
    """Mean of the unit embeddings of each row's captions."""
    owners = np.repeat(np.arange(len(rows)), [len(row["captions"]) for row in rows])
    means = np.zeros((len(rows), model.embed_dim), np.float32)
    with torch.inference_mode():
        embeddings = model.encode_texts([str(text) for row in rows for text in row["captions"]])
    np.add.at(means, owners, embeddings.float().cpu().numpy())
    return _unit(means)


def embed_images(model: DifferenceCLIP, captions: Path, rows: list[Row], batch: int = 64) -> Vectors:
    """Return unit embeddings (N, D) of the images of rows of `captions`."""
    parts = []
    for start in range(0, len(rows), batch):
        pictures = [_picture(model, image_path(captions, row)) for row in rows[start : start + batch]]
        with torch.inference_mode():
            parts.append(model.encode_images(torch.stack(pictures).to(model.device)).float().cpu().numpy())
    return np.concatenate(parts)


def _picture(model: DifferenceCLIP, file: Path) -> torch.Tensor:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not found")
    try:
        pixels: torch.Tensor = model.image_transform(decode(read_bytes(file), str(file)))
    except UnreadableImageError as error:
        raise ValueError(
            f"{file}: cannot be read as an image ({error.reason}); run `pcclip-data captions` to drop it"
        ) from error
    return pixels


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit
