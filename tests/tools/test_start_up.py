"""Tools import what they use: nothing that only training, evaluation or other models need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

UNUSED = ("lightning", "scipy", "sklearn", "torchmetrics", "transformers", "torch._dynamo", "matplotlib", "gradio")
AXIS = ("--more", "the first is brighter", "--less", "the first is darker")


def run_python(code: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("rank", AXIS),
        ("search", ("--image", "{photos}/00.png", "--text", "the first is brighter")),
        ("prompt", ("--classes", "cat,dog")),
    ],
)
def test_tools_import_what_they_use(command: str, options: tuple[str, ...], saved: Path, photos: Path) -> None:
    code = "import sys; from pcclip.cli import main; code = main(sys.argv[1:]); print(*sys.modules); sys.exit(code)"
    words = [word.format(photos=photos) for word in options]
    said = run_python(code, command, photos, *words, "--model", saved)
    loaded = said.splitlines()[-1].split()
    assert "open_clip" in loaded
    assert not [name for name in UNUSED if name in loaded]


def test_what_was_left_out_can_be_used_afterwards() -> None:
    code = """if True:
        from pcclip.lean_import import import_open_clip
        import_open_clip()
        import sys, torch, torchvision
        assert "torch._dynamo" not in sys.modules and "transformers" not in sys.modules
        boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])]
        aligned = torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, output_size=2)
        assert torch.equal(aligned, torch.ones(1, 1, 2, 2))
        compiled = torch.compile(lambda x: x + 1, backend="eager")
        assert compiled(torch.ones(1)).item() == 2
        import transformers
    """
    run_python(code)


def test_text_towers_of_hugging_face_load_all_the_same(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path / "bert"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=4, **sizes)).save_pretrained(folder)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[SEP]": 2, "a": 3}, "[UNK]"))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    config = json.loads((Path(__file__).parents[1] / "helpers/tiny.json").read_text())
    names = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
    (tmp_path / "tower.json").write_text(json.dumps({**config, "text_cfg": {**names, "hf_pooler_type": "mean_pooler"}}))
    code = """if True:
        import sys
        from pcclip.lean_import import import_open_clip
        import_open_clip()
        from pcclip.model import load_clip
        assert load_clip(sys.argv[1]).eval().encode_texts(["a a"]).shape == (1, 32)
    """
    run_python(code, tmp_path / "tower.json")
