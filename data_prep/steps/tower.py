"""Uses of a CLIP model: embeddings to form groups by, and a check that texts fit their images."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from sklearn.random_projection import GaussianRandomProjection

from data_prep.files import CAPTION_KEYS, EMBEDDING_ROW, Row, image_path
from data_prep.line_index import LineIndex
from data_prep.rules.judge import Judgement
from data_prep.steps.similar import WIDTH, Indices, Vectors, embed_in_chunks
from pcclip.data.encoding import encode_pictures
from pcclip.data.labelled import ImageFile
from pcclip.data.stored_embeddings import stored_image
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.loading import load_clip

BATCH = 64  # images
ROWS = 960  # rows at a time: mostly whole groups, so few images are embedded twice


def load_tower(name: str, pretrained: str | None, option: str) -> DifferenceCLIP:
    """Load a frozen model with its weights, onto a GPU if available.

    Args:
        name: Name of the model for `pcclip.model.loading.load_clip`.
        pretrained: Its weights, if the name does not include them.
        option: The option that names the model, for the message.

    Raises:
        FileNotFoundError: A file of the model is missing.
        ValueError: The model is unknown, or has no weights.
    """
    if not (pretrained or name.startswith(("local-dir:", "hf-hub:"))):
        raise ValueError(
            f"{option}: {name} has no weights; set `{option.replace('model', 'pretrained')}`, or name a model with weights "
            "(`local-dir:FOLDER`)"
        )
    model = load_clip(name, pretrained).requires_grad_(False).eval()
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def embed_by_model(
    captions: Path, chosen: Indices, *, name: str, pretrained: str | None, by: str, seed: int
) -> Vectors:
    """Return unit embeddings (N, D) of chosen rows by a model, reduced to D of at most 128.

    Args:
        captions: The `captions.jsonl`.
        chosen: Indices of rows, ascending.
        name: Name of the model for `pcclip.model.loading.load_clip`.
        pretrained: Its weights, if the name does not include them.
        by: `captions` (mean embedding of an image's captions, zero without captions) or `images`.
        seed: Seed of the random projection.

    Raises:
        FileNotFoundError: A file of the model is missing.
        ValueError: An image is missing or unreadable, or the model is unknown or has no pretrained weights.
    """
    model = load_tower(name, pretrained, "pairs.model")
    embed_rows = embed_images if by == "images" else _embed_captions
    # A random projection nearly preserves distances, and needs no second pass over the images to be fitted.
    narrow = model.embed_dim > WIDTH
    projection = GaussianRandomProjection(WIDTH, random_state=seed)
    if narrow:
        projection.fit(np.zeros((1, model.embed_dim), np.float32))  # uses the width only

    def embed(rows: list[Row]) -> Vectors:
        found = embed_rows(model, captions, rows)
        return _unit(projection.transform(found) if narrow else found)

    return embed_in_chunks(captions, chosen, min(WIDTH, model.embed_dim), embed)


def _embed_captions(model: DifferenceCLIP, _: Path, rows: list[Row]) -> Vectors:
    owners = np.repeat(np.arange(len(rows)), [len(row["captions"]) for row in rows])
    means = np.zeros((len(rows), model.embed_dim), np.float32)
    with torch.inference_mode():
        embeddings = model.encode_texts([str(text) for row in rows for text in row["captions"]])
    np.add.at(means, owners, embeddings.float().cpu().numpy())
    return _unit(means)


def embed_images(model: DifferenceCLIP, captions: Path, rows: list[Row]) -> Vectors:
    """Return unit embeddings (N, D) of the images of some rows of `captions`. Read stored ones, else run the model.

    Raises:
        ValueError: An image is missing or unreadable, or stored embeddings have another width than the model's.
    """
    files = [str(image_path(captions, row)) for row in rows]
    pictures = [
        (number, stored_image(file, row[EMBEDDING_ROW]) if EMBEDDING_ROW in row else ImageFile(file, file))
        for number, (file, row) in enumerate(zip(files, rows, strict=True))
    ]
    parts = []
    for batch in encode_pictures(model, pictures, batch_size=BATCH, workers=0):
        for number, reason in batch.unreadable.items():
            raise ValueError(f"{files[number]}: unreadable image ({reason}); run `pcclip-data captions` to drop it")
        parts.append(batch.embeddings.numpy())
    return np.concatenate(parts)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def without_misfits(
    outcomes: Iterator[tuple[Row, Judgement]], captions: Path, name: str, pretrained: str | None
) -> Iterator[tuple[Row, Judgement]]:
    """Yield the outcomes. Reject a row if its reverse text fits the difference of its images at least as well.

    Args:
        outcomes: Rows of differences and what the rules say of them.
        captions: The `captions.jsonl` of their images.
        name: Name of the model for `load_clip`.
        pretrained: Its weights, if the name does not include them.

    Raises:
        FileNotFoundError: A file of the model is missing.
        ValueError: An image is missing or unreadable, or the model is unknown or has no weights.
    """
    model = load_tower(name, pretrained, "screen.fit_model")
    with LineIndex([captions], CAPTION_KEYS, "id") as index, torch.inference_mode():
        while outcomes_ahead := list(islice(outcomes, ROWS)):
            batch = [(row, judgement) for row, judgement in outcomes_ahead if judgement.reason is None]
            if not batch:
                yield from outcomes_ahead
                continue
            ids = dict.fromkeys(row[side] for row, _ in batch for side in ("first", "second"))
            places = {image: place for place, image in enumerate(ids)}
            found = [row for row in map(index.get, places) if row is not None]
            images = torch.from_numpy(embed_images(model, captions, found)).to(model.device)
            first, second = (images[[places[row[side]] for row, _ in batch]] for side in ("first", "second"))
            difference = model.difference(first, second)
            forward, backward = (
                (difference * model.encode_texts([judgement.texts[place] for _, judgement in batch])).sum(-1).tolist()
                for place in (0, 1)
            )
            for (_, judgement), fit, reversed_fit in zip(batch, forward, backward, strict=True):
                if not fit > reversed_fit:
                    judgement.reason = "misfit"
                    judgement.detail = f"cosine {fit:.3f} with its images' difference, reversed {reversed_fit:.3f}"
            yield from outcomes_ahead
