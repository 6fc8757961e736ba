"""Any captioner of transformers says the same of a picture, alone or in a batch."""

import re
import types

import captioners
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from chat_server import ChatServer
from toys import save_blip2, save_clip

from commoncanvas.captions import telephoning, written
from commoncanvas.captions.image_text import ImageTextCaptioner, shown_picture
from commoncanvas.core import paths
from commoncanvas.core.errors import EngineError, ParameterError
from commoncanvas.core.files import sha256_of
from commoncanvas.core.images import encode_png
from commoncanvas.core.picture_store import picture_files, write_pictures

RNG = np.random.default_rng(0)
PIXELS = [RNG.integers(0, 256, (40 + i % 3 * 20, 40, 3), np.uint8) for i in range(24)]
ROWS = [(f"k{i:02d}", encode_png(pixels)) for i, pixels in enumerate(PIXELS)]
SAVED = {
    "blip2": lambda folder: save_blip2(folder, captioners.SAID),
    "chat": captioners.save_chat,
    "florence2": captioners.save_florence2,
    "git": captioners.save_git,
}
ASKED = {"blip2": "", "chat": "Describe this picture in one sentence", "git": ""}
ASKED["florence2"] = "<CAPTION>"
SHORT = {"max_new_tokens": 6}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {n: save(tmp_path_factory.mktemp(n)) for n, save in SAVED.items()}


@pytest.fixture
def make(folders):
    def made(family, **words):
        words = {"prompt": ASKED[family], "generate": SHORT, "cut": "keep"} | words
        return ImageTextCaptioner(folders[family], **words)

    return made


def raw(captioner, rows=ROWS):
    return captioner.table(rows)["caption_raw"].to_pylist()


@pytest.mark.parametrize("family", SAVED)
def test_it_says_the_same_alone_and_in_a_batch(make, family):
    together = make(family, batch_size=24).table(ROWS)
    assert make(family, batch_size=1).table(ROWS) == together
    assert make(family, batch_size=5).table(ROWS[::-1]).to_pylist()[::-1] == (
        together.to_pylist()
    )
    texts = together["caption_raw"].to_pylist()
    assert together["key"].to_pylist() == [key for key, _ in ROWS]
    assert len(set(texts)) > 3  # it looks at its picture
    assert all("<" not in text and text == text.strip() for text in texts)


@pytest.mark.parametrize("family", ["blip2", "chat"])
def test_prompts_of_different_lengths_are_continued_as_if_alone(make, family):
    prompts = [" ".join(captioners.SAID[i % 7 : i % 7 + i % 5]) for i in range(24)]
    model = make(family)
    together = model.caption(PIXELS, prompts)
    alone = [
        model.caption([picture], [prompt])[0]
        for picture, prompt in zip(PIXELS, prompts, strict=True)
    ]
    assert together == alone and len(set(together)) > 3
    model.processor.tokenizer.padding_side = "right"
    with pytest.raises(
        EngineError, match="pads prompts on the right; expected the left"
    ):
        model.caption(PIXELS, prompts)


@pytest.mark.parametrize("family", ["blip2", "chat"])
def test_a_prompt_steers_the_answer_and_is_not_part_of_it(make, family):
    one, other = (
        make(family, prompt=p) for p in ("w1 w2 w3 w4", "what is in the image")
    )
    assert raw(one) != raw(other)
    assert set(one.table(ROWS)["reason"].to_pylist()) <= {"", "empty caption"}


def test_a_system_s_turn_is_heard(make):
    assert raw(make("chat", system="w7 w8 w9")) != raw(make("chat"))


def test_a_prompt_that_comes_back_is_an_error(make, monkeypatch):
    model = make("chat")
    generate = model.model.generate
    # Something before the prompt, so that it is not found where it should be.
    monkeypatch.setattr(
        model.model,
        "generate",
        lambda **words: torch.nn.functional.pad(generate(**words), (1, 0), value=7),
    )
    with pytest.raises(
        EngineError, match="repeats its prompt in every answer, such as"
    ):
        model.table(ROWS)


@pytest.mark.parametrize("family", SAVED)
def test_an_answer_that_goes_on_is_cut_off(make, family):
    words = {"cut": "reject", "batch_size": 24}
    short = make(family, generate={"max_new_tokens": 3}, **words).table(ROWS)
    longer = raw(make(family, generate={"max_new_tokens": 12}, **words))
    reasons, texts = short["reason"].to_pylist(), short["caption_raw"].to_pylist()
    for reason, text, whole in zip(reasons, texts, longer, strict=True):
        assert whole.startswith(text)
        assert reason in ("cut off", "empty caption") or whole == text
    assert "cut off" in reasons


def test_an_answer_that_ends_with_the_last_token_is_whole(make, monkeypatch):
    model = make("git")
    pad, end = 0, 2
    told = torch.tensor(
        [[1, 9, 9, end], [1, 9, 9, 9], [1, 9, end, pad], [1, 9, end, end]]
    )
    monkeypatch.setattr(model.model, "generate", lambda **_: told)
    _, is_cut = model.write(model.prepare(PIXELS[:4]))
    assert is_cut == [False, True, False, False]


def test_sampled_captions_are_the_same_when_a_shard_is_done_again(make):
    generate = {**SHORT, "do_sample": True, "top_p": 0.9}
    sampling = make("chat", generate=generate)
    first = sampling.table(ROWS)
    torch.rand(3)
    assert sampling.table(ROWS) == first
    assert make("chat", generate=generate, seed=1).table(ROWS) != first


def test_what_it_is_is_told_without_its_weights(make, folders, tmp_path):
    for file in folders["git"].glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"")
    bare = ImageTextCaptioner(tmp_path)
    assert bare.identity.startswith("transformers:") and bare.decoding
    assert bare.identity != make("git").identity


@pytest.mark.parametrize(
    ("family", "words", "message"),
    [
        ("git", {"chat": "yes"}, "has no chat template; expected one"),
        ("git", {"chat": "maybe"}, "`chat` of a captioner is 'maybe'; expected auto"),
        ("git", {"dtype": "fp8"}, "`dtype` of a captioner is 'fp8'; expected auto"),
        ("git", {"cut": "off"}, "`cut` of a captioner is 'off'"),
        ("git", {"batch_size": 0}, "a captioner has batch_size 0 and longest_edge 512"),
        (
            "git",
            {"generate": "short"},
            "`generate` of a captioner is 'short'; expected",
        ),
        ("git", {"generate": {"max_tokens": 5}}, "cannot write so .*max_tokens"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(make, family, words, message):
    with pytest.raises(ParameterError, match=message) as refused:
        make(family, **words).table(ROWS)
    assert "\n" not in str(refused.value)


def test_a_model_of_another_kind_is_refused(tmp_path):
    with pytest.raises(
        ParameterError, match="is a 'clip'; expected one of transformers'"
    ):
        ImageTextCaptioner(save_clip(tmp_path))


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(ParameterError, match="has no configuration that") as refused:
        ImageTextCaptioner(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ['{"auto_map": {"AutoConfig": "a.B"}}', "[" * 100_000])
def test_a_config_that_runs_code_or_cannot_be_read_is_one_line(
    tmp_path, monkeypatch, text
):
    def asked(*_):
        raise AssertionError("nobody is asked")

    monkeypatch.setattr("builtins.input", asked)
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "a.py").write_text("raise AssertionError('it ran')\n")
    with pytest.raises(ParameterError, match="has no configuration that") as refused:
        ImageTextCaptioner(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["input_ids", "num_return_sequences"])
def test_arguments_that_the_class_itself_gives_are_not_replaced(make, name):
    with pytest.raises(ParameterError, match=f"has `{name}`, which it sets itself"):
        make("git", generate={name: 2})


def test_a_processor_that_lacks_a_package_is_one_line(make, monkeypatch):
    def fails(*_, **__):
        raise ImportError("SmolVLMVideoProcessor requires\n the Torchvision library")

    fake = types.SimpleNamespace(from_pretrained=fails)
    monkeypatch.setattr("transformers.AutoProcessor", fake)
    with pytest.raises(ParameterError, match="requires the Torchvision") as refused:
        make("chat").table(ROWS)
    assert "\n" not in str(refused.value) and "endpoint" in str(refused.value)


@pytest.mark.parametrize(
    ("edge", "square", "shape"),
    [
        (512, False, (256, 512)),
        (512, True, (500, 500)),
        (100, True, (100, 100)),
        (0, False, (500, 1000)),
        (2000, False, (500, 1000)),
    ],
)
def test_pictures_are_shown_whole_or_square_and_never_enlarged(edge, square, shape):
    png = encode_png(np.zeros((500, 1000, 3), np.uint8))
    assert shown_picture(png, edge, square).shape == (*shape, 3)


def snippets(name):
    """Return the YAML blocks of a section of the how-tos."""
    text = (paths.DOCS / "HOWTO.md").read_text("utf-8").split(f"\n## {name}\n")[1]
    return re.findall(r"```yaml\n(.*?)```", text.split("\n## ")[0], re.DOTALL)


def telephoned(tmp_path, monkeypatch, captioners_, rows):
    """Caption pictures of a small world by several captioners, as stage 02 does."""
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / "finished")
    told = [(key, "c", data) for key, data in rows]
    for number, start in enumerate(range(0, len(rows), 100)):
        write_pictures(tmp_path / "01", number, told[start : start + 100])
    files = {sha256_of(file)[:32]: file for file in picture_files(tmp_path / "01")}
    done = {
        source: telephoning.telephone(source, settings, files, "toy")[1]
        for source, settings in captioners_.items()
    }
    counts = written.write_captions(tmp_path, files.values(), done)
    return counts, pd.read_parquet(tmp_path / "captions")


def test_the_four_lines_of_the_how_to_are_a_captioner(tmp_path, monkeypatch):
    """The very snippet, with a tiny model where it says that a model lies."""
    (snippet,) = [s for s in snippets("Captioners") if "captioner: transformers" in s]
    settings = yaml.safe_load(snippet)
    assert len(snippet.splitlines()) <= 6  # four lines and the two that they stand in
    (tmp_path / "commoncanvas").symlink_to(paths.ROOT / "commoncanvas")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    ((source, own),) = settings["captioners"].items()
    captioners.save_chat(tmp_path / own["model"])
    _, rows = telephoned(tmp_path, monkeypatch, {source: own}, ROWS)
    assert rows["key"].tolist() == [key for key, _ in ROWS]
    assert rows["source"].eq(source).all()
    assert (rows["caption"].eq("") == rows["reason"].ne("")).all()
    assert rows["caption"].nunique() > 3


@pytest.mark.slow
def test_300_pictures_through_three_families_and_an_endpoint_are_tables_of_one_form(
    tmp_path, folders, monkeypatch
):
    rng = np.random.default_rng(1)
    rows = [
        (f"k{i:03d}", encode_png(rng.integers(0, 256, (40, 40, 3), np.uint8)))
        for i in range(300)
    ]
    own = {
        family: {
            "captioner": "transformers",
            "model": str(folders[family]),
            "prompt": ASKED[family],
            "generate": SHORT,
            "cut": "keep",
            "batch_size": 32,
        }
        for family in ("blip2", "chat", "florence2")
    }
    with ChatServer() as server:
        own["served"] = {"captioner": "endpoint", "model": "qwen-vl", "url": server.url}
        counts, table = telephoned(tmp_path, monkeypatch, own, rows)
    assert counts.groupby("source")["pictures"].sum().to_dict() == dict.fromkeys(
        own, 300
    )
    assert list(table) == ["key", "source", "caption_raw", "caption", "reason"]
    for source in own:
        part = table[table["source"] == source]
        assert part["key"].tolist() == [key for key, _ in rows]
        assert part["caption"].nunique() > 10
    assert all(pd.api.types.is_string_dtype(table[name]) for name in table)
