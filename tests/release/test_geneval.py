"""A judge's probabilities are the model's own, and a run says what it measured."""

import json

import captioners
import numpy as np
import pytest
import torch
from doors import call
from PIL import Image
from toys import save_clip

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.release import geneval, sample
from commoncanvas.release.geneval import Judge

WORDS = "Yes yes no one One two Two 2 three Are there any apples image How many".split()
RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(3)]
QUESTIONS = ["How many apples are in the image?", "Are there any apples?", "Are there?"]
ANSWERS = ["two", "Yes", "no"]
SAVED = {"chat": captioners.save_chat, "git": captioners.save_git}
ROWS = [
    {
        "prompt": prompt,
        "atom_count": 1,
        "vqa_list": [list(pair) for pair in zip(QUESTIONS, ANSWERS, strict=True)],
        "skills": ["count", "object", "object"],
    }
    for prompt in ("red apple", "blue heart", "rocket", "green tree", "yellow star")
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {
        name: save(tmp_path_factory.mktemp(name), more=WORDS, unk_token="<pad>")
        for name, save in SAVED.items()
    }


@pytest.fixture(scope="module")
def judges(folders):
    return {name: Judge(str(folder)) for name, folder in folders.items()}


@pytest.mark.parametrize("family", SAVED)
def test_a_question_has_the_same_answer_alone_and_in_a_batch(judges, family):
    judge = judges[family]
    for picture in PICTURES:
        together = judge.probabilities(picture, QUESTIONS, ANSWERS)
        turned = judge.probabilities(picture, QUESTIONS[::-1], ANSWERS[::-1])[::-1]
        alone = [
            judge.probabilities(picture, [question], [answer])[0]
            for question, answer in zip(QUESTIONS, ANSWERS, strict=True)
        ]
        assert together == pytest.approx(alone, rel=1e-4, abs=1e-12)
        assert together == pytest.approx(turned, rel=1e-4, abs=1e-12)


def test_the_judge_looks_at_its_picture_and_hears_its_question(judges):
    found = [
        judges["chat"].probabilities(picture, [question], ["Yes"])[0]
        for picture in PICTURES
        for question in QUESTIONS
    ]
    assert len({f"{x:.9g}" for x in found}) == 9


def test_probabilities_of_all_tokens_sum_to_one(judges, monkeypatch):
    judge = judges["chat"]
    num = len(judge.tokenizer)
    firsts = {answer: judge.first_tokens(answer) for answer in ("Yes", "two", "three")}
    named = {token for tokens in firsts.values() for token in tokens}
    assert len(named) == sum(map(len, firsts.values())) == 2 + 3 + 1
    firsts["else"] = sorted(set(range(num)) - named)
    monkeypatch.setattr(judge, "first_tokens", firsts.get)
    asked = QUESTIONS[:1] * len(firsts)
    found = judge.probabilities(PICTURES[0], asked, list(firsts))
    assert sum(found) == pytest.approx(1, abs=1e-9) and min(found) >= 0


@pytest.mark.parametrize(("answer", "num"), [("two", 3), ("Yes", 2), ("no", 1)])
def test_the_probability_of_an_answer_is_that_of_its_tokens(folders, answer, num):
    """Each token once: two, Two and 2, with or without a space before."""
    judge = Judge(str(folders["chat"]))
    judge.reader.model.lm_head.weight.data.zero_()  # every token is as probable
    (found,) = judge.probabilities(PICTURES[0], QUESTIONS[:1], [answer])
    assert found == pytest.approx(num / len(judge.tokenizer), rel=1e-6)


def test_it_is_the_model_s_own_next_word(judges):
    """The same as the logits of a plain forward pass after the wording and template."""
    judge, question = judges["chat"], QUESTIONS[0]
    said = {"type": "text", "text": f"{question} Answer in one word."}
    turn = {"role": "user", "content": [{"type": "image", "image": PICTURES[0]}, said]}
    inputs = judge.reader.processor.apply_chat_template(
        [turn],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        shares = judge.reader.model(**inputs).logits[0, -1].softmax(-1)
    ids = judge.tokenizer.convert_tokens_to_ids(["two", "Two", "2"])
    found = judge.probabilities(PICTURES[0], [question], ["two"])
    assert found == pytest.approx([float(shares[ids].sum())], rel=1e-4)


def test_a_judge_that_cannot_judge_is_one_line(judges, tmp_path, folders):
    empty = tmp_path / "empty"
    empty.mkdir()
    save_clip(tmp_path / "clip")
    for name, message in [
        ("some/model", "is no folder here and has no revision"),
        ("some/model@main", "the revision of 'some/model' is 'main'"),
        (str(empty), "has no configuration that transformers reads"),
        (str(tmp_path / "clip"), "is a 'clip'"),
    ]:
        with pytest.raises(ParameterError, match=message) as refused:
            Judge(name)
        assert "\n" not in str(refused.value)
        assert str(refused.value).startswith("--judge is")
        assert "captioner" not in str(refused.value)
    with pytest.raises(ParameterError, match="whose vocabulary lacks 'seven'"):
        judges["chat"].first_tokens("seven")
    broken = Judge(str(folders["chat"]))
    broken.reader.model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(ParameterError, match="answers NaN; expected numbers"):
        broken.probabilities(PICTURES[0], QUESTIONS[:1], ["two"])


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / "finished")
    monkeypatch.setattr(geneval, "PROMPTS_A_SHARD", 2)
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    parts, manifest = sample.load(sample.MODEL)
    manifest["facts"]["num_inference_steps"] = 1
    monkeypatch.setattr(geneval, "load", lambda folder: (parts, manifest))
    return file


def test_a_run_measures_and_says_what_it_measured(world, folders, tmp_path):
    out = tmp_path / "found.json"
    words = ["--questions", world, "--judge", folders["chat"], "--out", out]
    printed = call("geneval", *words)
    found = json.loads(out.read_text())
    assert "Soft-TIFA AM: " in printed and "not for commercial use" in printed
    assert (found["num_prompts"], found["num_prompts_of_file"]) == (5, 5)
    _, manifest = geneval.load(sample.MODEL)
    for name in ("guidance_scale", "num_inference_steps"):
        assert found[name] == manifest["facts"][name]
    assert found["judge"].startswith("transformers:") and found["num_prompts_cut"] == 0
    by_prompt = found["prompts"]
    assert [row["line"] for row in by_prompt] == [1, 2, 3, 4, 5]
    assert len({row["seed"] for row in by_prompt}) == 5
    assert found["am"]["value"] == pytest.approx(
        np.mean([np.mean(row["probabilities"]) for row in by_prompt]), rel=1e-5
    )
    assert found["skills"]["object"]["questions"] == 10
    assert not any(row["prompt"] in out.read_text() for row in ROWS)  # CC BY-NC
    # Of fewer prompts each has the same picture and the same answers.
    call("geneval", *words, "--num", 2)
    fewer = json.loads(out.read_text())
    assert fewer["prompts"] == [by_prompt[0], by_prompt[2]]
    call("geneval", *words, "--num", 2, "--seed", 1)
    other = json.loads(out.read_text())["prompts"]
    assert all(
        a["seed"] != b["seed"] for a, b in zip(other, fewer["prompts"], strict=True)
    )


def test_a_picture_is_the_one_that_sample_draws(world, folders, tmp_path, monkeypatch):
    seen = []

    def watched(judge, picture, questions, answers):
        seen.append(picture)
        return [0.5] * len(questions)

    monkeypatch.setattr(Judge, "probabilities", watched)
    found = geneval.measure(world, str(folders["git"]), num=2)
    assert found["am"]["value"] == found["gm"]["value"] == 0.5
    file, seed = tmp_path / "a.png", found["prompts"][0]["seed"]
    sample.sample(ROWS[0]["prompt"], file, seed, num_inference_steps=1)
    assert np.array_equal(np.asarray(Image.open(file)), seen[0])


def test_a_stopped_run_goes_on(world, folders, monkeypatch):
    asked = []

    def stopping(judge, picture, questions, answers):
        if len(asked) == 3:
            asked.append("stopped")
            raise KeyboardInterrupt
        asked.append(len(questions))
        return [0.25] * len(questions)

    monkeypatch.setattr(Judge, "probabilities", stopping)
    with pytest.raises(KeyboardInterrupt):
        geneval.measure(world, str(folders["git"]))
    found = geneval.measure(world, str(folders["git"]))
    assert found["num_prompts"] == 5 and found["gm"]["value"] == 0.25
    assert len(asked) == 3 + 1 + 3  # the first two were kept, the third was not


def test_a_wrong_place_or_file_is_one_line(world, folders, tmp_path):
    words = ["--judge", folders["git"], "--questions", world]
    assert "expected a file that ends in .json" in call(
        "geneval", *words, "--out", "x.txt", fails=True
    )
    world.write_text("{}\n")
    assert "line 1: it has no `prompt`" in call("geneval", *words, fails=True)


@pytest.mark.gpu
def test_a_gpu_draws_nearly_the_same(tmp_path):
    parts, manifest = sample.load(sample.MODEL)
    how = "red apple", 0, 3.0, 20
    here = geneval.draw(parts, *how).astype(int)
    for network in (parts.unet, parts.vae, parts.text_encoder):
        network.to("cuda")
    assert abs(geneval.draw(parts, *how) - here).mean() < 1
