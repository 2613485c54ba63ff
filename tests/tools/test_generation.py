"""`pcclip generate` on a tiny pipeline with random weights."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcclip.cli import main
from pcclip.metrics.protocol import Wording
from pcclip.model import save_clip
from pcclip.tools.inference import InferenceModel
from tests.helpers.models import make_clip

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion that draws 16 x 16 pixels, for text towers of width 32."""
    sizes = {"block_out_channels": (8, 16), "norm_num_groups": 4}
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        in_channels=4,
        out_channels=4,
        cross_attention_dim=32,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **sizes,
    )
    vae = diffusers.AutoencoderKL(
        sample_size=16,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        **sizes,
    )
    folder = tmp_path_factory.mktemp("models")
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def test_difference_moves_the_pictures(pipeline_folder: Path, tmp_path: Path) -> None:
    from pcclip.tools.generate import clip_score, generate, load_pipeline

    model = InferenceModel(make_clip(tmp_path, "vit"), "tiny")
    pipeline = load_pipeline(pipeline_folder, model)
    settings = {"steps": 2, "seeds": (0, 1), "side": 16}
    made = generate(pipeline, "a dog", Wording("the first is larger", ""), [0.0, 3.0], **settings)
    plain = generate(pipeline, "a dog", Wording("something else", "the opposite"), [0.0], **settings)
    arrays = {factor: [np.asarray(picture) for picture in row] for factor, row in made.items()}
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(arrays[0.0], plain[0.0], strict=True))
    assert not np.array_equal(arrays[0.0][0], arrays[3.0][0])
    assert not np.array_equal(arrays[0.0][0], arrays[0.0][1])
    # CLIPScore is 100 times the mean cosine, at least 0.
    gallery = model.embed(made[0.0])
    cosine = float((gallery.embeddings @ model.embed_texts(["a dog"])[0]).mean())
    assert clip_score(model, made[0.0], "a dog") == pytest.approx(max(0, 100 * cosine), abs=1e-2)


def test_command_draws_a_grid(pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_clip(make_clip(tmp_path, "resnet"), tmp_path / "model")
    arguments = ["generate", "--pipeline", str(pipeline_folder), "--model", str(tmp_path / "model"), "--steps", "1"]
    arguments += ["--prompt", "a dog", "--difference", "the first is larger", "--lambdas", "[0, 1]", "--seeds", "[0]"]
    output = tmp_path / "grid.png"
    assert main([*arguments, "--side", "16", "--output", str(output)]) == 0
    assert capsys.readouterr().out.count("CLIPScore") == 2
    with Image.open(output) as grid:
        assert grid.height > 2 * 112
