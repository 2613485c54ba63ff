"""A small file of a small CLIP: float16, and of the token table only the rows of the tokens that its captions use."""

import json
import logging
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from pcclip.console import done
from pcclip.model.loading import WEIGHTS_FILE, load_clip, save_clip

TABLE, ROWS = "token_embedding.weight", "token_ids"


def pack_model(model: Path, captions: Path, output: Path) -> None:
    """Write the weights of a saved model in float16, without the rows of tokens that no caption has.

    Args:
        model: Folder of the saved model.
        captions: captions.jsonl that it was trained on.
        output: File to write.
    """
    texts = [
        text for line in captions.read_text(encoding="utf-8").splitlines() for text in json.loads(line)["captions"]
    ]
    used = torch.unique(load_clip(f"local-dir:{model}").tokenizer(texts))
    state = load_file(model / WEIGHTS_FILE)
    state[TABLE] = state[TABLE][used]
    halved = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_file({**halved, ROWS: used}, output)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {len(used)} tokens")


def unpack_model(packed: Path, config: Path, output: Path) -> None:
    """Make a saved model (`local-dir:OUTPUT`) of a packed one.

    Tokens without a row get random embeddings as large as the others', as if they had been in some captions.

    Args:
        packed: File that `pack_model` wrote.
        config: JSON model configuration.
        output: Folder to write.
    """
    started = time.perf_counter()
    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # open_clip says that the weights are random; they are replaced below
    model = load_clip(str(config))
    logging.disable(logging.NOTSET)
    state = load_file(packed)
    used = state.pop(ROWS)
    known = state[TABLE].float()
    table = model.towers.state_dict()[TABLE]
    table = table * (known.std() / table.std())
    table[used] = known
    model.towers.load_state_dict({**state, TABLE: table})
    save_clip(model, output)
    done(f"{output}: unpacked from {packed}", time.perf_counter() - started)
