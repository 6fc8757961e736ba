"""A trained pipeline is plain diffusers, and sample i is sample i in any batch."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionPipeline
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from toys import UNET, make_vae
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from commoncanvas.core.errors import LicenseError
from commoncanvas.licenses.license import read_license
from commoncanvas.models.pipelines import (
    draw_samples,
    make_noise_scheduler,
    make_pipeline,
)
from commoncanvas.models.unets import make_unet
from commoncanvas.train import export

WORDS = ["[PAD]", "[CLS]", "[SEP]", "a", "red", "blue", "cat", "dog"]
PROMPTS = ["a red cat", "a dog", "blue", "a blue dog", "cat"]


def make_tokenizer():
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", model_max_length=6
    )


def make_text_encoder():
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
    )
    text_encoder = BertModel(config, add_pooling_layer=False).eval()
    text_encoder.config.use_attention_mask = True
    return text_encoder


@pytest.fixture(scope="module")
def pipeline():
    vae = make_vae()
    unet = make_unet(UNET, 4, 4, 16, seed=0).eval()
    # An untrained UNet hardly hears its prompt.
    for name, weights in unet.named_parameters():
        if "attn2.to_out" in name:
            weights.data.mul_(20)
    parts = unet, vae, make_tokenizer(), make_text_encoder()
    return make_pipeline(*parts, make_noise_scheduler())


def draw(pipeline, prompts=PROMPTS, guidance_scale=3.0, seed=1, batch_size=5):
    args = prompts, guidance_scale, 3, seed, batch_size
    return draw_samples(pipeline, *args)


def distance(a, b):
    return np.abs(a.astype(int) - b.astype(int)).max()


def works(*pairs):
    """Return works of these licences; one that is not read is blank, as in stage 01."""
    rows = []
    for title, url in pairs:
        try:
            one = read_license(title, url)
            columns = [one.slug, one.version, one.port]
        except LicenseError:
            columns = ["", "", ""]
        rows.append(["toy", "c", title, url, *columns])
    names = ["source", "split", "license", "license_url"]
    names += ["license_slug", "license_version", "license_port"]
    return pd.DataFrame(rows, columns=names)


def facts_of(*pairs):
    return export.card_facts(
        "cc_toy", works(*pairs), "synthetic", 1234, {"lr": 0.1}, "MiniLM"
    )


def card_of(*pairs):
    return export.model_card(facts_of(*pairs))


def test_the_card_of_a_control_says_that_its_captions_were_exchanged():
    told = "cc_toy", works(), "synthetic", 1234, {"lr": 0.1}, "MiniLM"
    control = export.card_facts(*told, is_shuffled=True)
    assert control == {**export.card_facts(*told), "shuffled": True}
    words = "each work had those of another: this model is a control"
    assert words in str(export.model_card(control))
    assert words not in str(export.model_card(export.card_facts(*told)))


BY = ("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/")
BY_SA = ("CC BY-SA 4.0", "https://creativecommons.org/licenses/by-sa/4.0/")
BY_NC = ("CC BY-NC 4.0", "https://creativecommons.org/licenses/by-nc/4.0/")
CC0 = ("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/")
PORTED = ("CC BY 3.0 FR", "https://creativecommons.org/licenses/by/3.0/fr/")
MIT = ("MIT", "https://spdx.org/licenses/MIT")


def test_there_is_one_picture_a_prompt(pipeline):
    pixels = draw(pipeline)
    assert pixels.shape == (5, 32, 32, 3) and pixels.dtype == np.uint8


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_a_sample_does_not_depend_on_its_batch(pipeline, batch_size, guidance_scale):
    together = draw(pipeline, guidance_scale=guidance_scale)
    apart = draw(pipeline, guidance_scale=guidance_scale, batch_size=batch_size)
    assert distance(together, apart) <= 1


def test_a_sample_does_not_depend_on_the_prompts_after_it(pipeline):
    assert distance(draw(pipeline)[:2], draw(pipeline, PROMPTS[:2])) <= 1


def test_the_same_seed_draws_the_same_and_another_does_not(pipeline):
    pixels = draw(pipeline)
    assert np.array_equal(pixels, draw(pipeline))
    assert distance(pixels, draw(pipeline, seed=2)) > 5


def test_the_same_prompt_twice_is_two_pictures(pipeline):
    pixels = draw(pipeline, ["a dog", "a dog"])
    assert distance(pixels[0], pixels[1]) > 5


def test_the_prompt_and_its_guidance_matter(pipeline):
    pixels = draw(pipeline, ["a dog"], 1.0)
    assert distance(pixels, draw(pipeline, ["a red cat"], 1.0)) > 0
    assert distance(pixels, draw(pipeline, ["a dog"], 20.0)) > 0


def test_guidance_one_asks_the_unet_once_a_step(pipeline, monkeypatch):
    sizes, whole = [], pipeline.unet.forward

    def forward(latents, *args, **kwargs):
        sizes.append(len(latents))
        return whole(latents, *args, **kwargs)

    monkeypatch.setattr(pipeline.unet, "forward", forward)
    draw(pipeline, guidance_scale=1.0)
    draw(pipeline, guidance_scale=2.0)
    assert sizes == [5] * 3 + [10] * 3


def test_sampling_uses_the_noise_schedule_of_training(pipeline):
    found = pipeline.scheduler.alphas_cumprod
    assert torch.equal(found, make_noise_scheduler().alphas_cumprod)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_pipeline_knows_what_its_unet_predicts(pipeline, kind):
    parts = [getattr(pipeline, n) for n in ("unet", "vae", "tokenizer", "text_encoder")]
    made = make_pipeline(*parts, make_noise_scheduler(kind))
    assert made.scheduler.config.prediction_type == kind


PLAIN = """
import sys
sys.modules["commoncanvas"] = None  # an import of it would fail
import torch
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], local_files_only=True)
assert pipeline.text_encoder.config.use_attention_mask is True
generator = torch.Generator().manual_seed(0)
pixels = pipeline("a dog", num_inference_steps=2, generator=generator,
                  output_type="np").images
assert pixels.shape == (1, 32, 32, 3)
print(type(pipeline).__name__, type(pipeline.scheduler).__name__)
"""


@pytest.mark.slow
def test_a_saved_pipeline_needs_diffusers_alone(pipeline, tmp_path):
    export.save_pipeline(pipeline, facts_of(BY), tmp_path / "pipeline")
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", PLAIN, "pipeline"]
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["StableDiffusionPipeline", "DDIMScheduler"]


def test_a_saved_pipeline_draws_what_it_drew(pipeline, tmp_path):
    export.save_pipeline(pipeline, facts_of(BY), tmp_path)
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    assert distance(draw(pipeline), draw(loaded)) <= 1


def test_nothing_saved_is_a_pickle(pipeline, tmp_path):
    export.save_pipeline(pipeline, facts_of(BY), tmp_path)
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".safetensors", ".md", ".txt", ".jinja"}
    assert (tmp_path / "README.md").exists()


def test_the_facts_of_the_card_lie_beside_it_as_data(pipeline, tmp_path):
    export.save_pipeline(pipeline, facts_of(BY, BY_SA, BY), tmp_path)
    facts = json.loads((tmp_path / "card.json").read_text())
    assert facts == facts_of(BY, BY_SA, BY)
    assert (facts["license"], facts["num_works"]) == ("cc-by-sa-4.0", 3)
    assert str(export.model_card(facts)) == (tmp_path / "README.md").read_text()
    assert facts["works"] == [
        {"source": "toy", "license": "CC BY 4.0", "works": 2},
        {"source": "toy", "license": "CC BY-SA 4.0", "works": 1},
    ]


@pytest.mark.parametrize(
    ("pairs", "license_"),
    [
        ([BY], "cc-by-4.0"),
        ([CC0], "cc0-1.0"),
        ([BY, BY_SA], "cc-by-sa-4.0"),
        ([CC0, BY_SA], "cc-by-sa-4.0"),
        ([BY, BY_NC], "cc-by-nc-4.0"),
        ([BY_SA, BY_NC, CC0], "cc-by-nc-sa-4.0"),
        ([MIT, BY], "other"),
        ([PORTED], "other"),
    ],
)
def test_the_card_bears_the_licence_that_the_works_leave_room_for(pairs, license_):
    assert card_of(*pairs).data.license == license_


def test_a_ported_licence_has_no_spdx_id_to_put_on_a_card():
    assert read_license(*PORTED).spdx == ""


def test_the_card_counts_every_work():
    text = card_of(BY, BY, BY_SA).text
    assert "| toy | CC BY 4.0 | 2 |" in text and "| toy | CC BY-SA 4.0 | 1 |" in text
    assert "3 works" in text and "1,234 parameters" in text and "| lr | 0.1 |" in text


QUIET = """
from commoncanvas.models import encoders, pipelines, scorer
encoders.load_text_encoder("all-MiniLM-L6-v2", 12)
scorer.text_encoder()
"""


@pytest.mark.slow
def test_loading_reports_nothing_that_a_reader_cannot_act_on():
    command = [sys.executable, "-c", QUIET]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "torchvision" not in done.stderr and "UNEXPECTED" not in done.stderr
