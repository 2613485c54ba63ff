"""Tools import what they use: nothing that only training, evaluation or other models need."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

CODE = """if True:
    import json, sys
    from pcclip.cli import main
    for command in json.loads(sys.argv[2]):
        assert main(command) == 0
        unused = {
            "lightning", "scipy", "sklearn", "torchmetrics", "transformers", "torch._dynamo", "matplotlib", "gradio"
        }
        assert "open_clip" in sys.modules
        assert not unused & set(sys.modules), (command, unused & set(sys.modules))

    import torch, torchvision
    boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])]
    aligned = torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, output_size=2)
    assert torch.equal(aligned, torch.ones(1, 1, 2, 2))
    compiled = torch.compile(lambda x: x + 1, backend="eager")
    assert compiled(torch.ones(1)).item() == 2
    if sys.argv[1]:
        from pcclip.model import load_clip
        assert load_clip(sys.argv[1]).eval().encode_texts(["a a"]).shape == (1, 32)
"""


def write_bert(folder: Path) -> Path:
    """Write a configuration whose text tower is a tiny BERT of Hugging Face, with the files that it names."""
    import tokenizers
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=4, **sizes)).save_pretrained(folder)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[SEP]": 2, "a": 3}, "[UNK]"))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    config = json.loads((Path(__file__).parents[1] / "helpers/tiny.json").read_text())
    names = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
    tower = folder / "tower.json"
    tower.write_text(json.dumps({**config, "text_cfg": {**names, "hf_pooler_type": "mean_pooler"}}))
    return tower


def test_tools_import_what_they_use_and_the_rest_works_afterwards(saved: Path, photos: Path, tmp_path: Path) -> None:
    """Among the rest are a compiler and, if it is installed, text towers of Hugging Face."""
    tower = str(write_bert(tmp_path / "bert")) if find_spec("transformers") else ""
    model = ["--model", str(saved)]
    commands = [
        ["rank", str(photos), "--more", "the first is brighter", "--less", "the first is darker", *model],
        ["search", str(photos), "--image", f"{photos}/00.png", "--text", "the first is brighter", *model],
        ["prompt", str(photos), "--classes", "cat,dog", *model],
    ]
    done = subprocess.run(
        [sys.executable, "-c", CODE, tower, json.dumps(commands)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
