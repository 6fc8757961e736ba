"""GenEval 2: does a released model draw what a prompt asks for, as a judge sees it?

`commoncanvas geneval --questions geneval2_data.jsonl --judge MODEL` draws each prompt
and asks a model that reads pictures about it. Soft-TIFA counts how probable the judge
finds the right answer, which is what its first token says. Source: geneval2.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from commoncanvas.analysis.estimates import Estimate
from commoncanvas.captions.image_text import ImageTextCaptioner
from commoncanvas.core.determinism import make_generator, settle
from commoncanvas.core.errors import EngineError, ParameterError, brief
from commoncanvas.core.files import sha256_of, shown, write_json
from commoncanvas.core.keys import code_hash, finish, key_of
from commoncanvas.core.shards import run_shards
from commoncanvas.evaluate.questions import (
    Asked,
    means,
    read_questions,
    soft_tifa,
    spellings,
    spread,
)
from commoncanvas.release.drawing import draw
from commoncanvas.release.sample import MODEL, count_tokens, demand, load, model_of

WORDING = "{} Answer in one word."  # Source: geneval2
TERMS = "the questions are under CC BY-NC 4.0: not for commercial use"
PROMPTS_A_SHARD = 4  # at most so many are lost to Ctrl-C


class Judge:
    """A model that reads pictures, asked how probable an answer is.

    All questions about a picture are one batch, on a GPU if there is one, so that no
    other picture changes a bit. Published scores are Qwen3-VL-8B-Instruct's.

    Args:
        name: folder of a model that `AutoModelForImageTextToText` loads, or ID@COMMIT
            of the Hub. One with a chat template is asked by it, another by the bare
            question.

    Raises:
        ParameterError: there is no such model.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        model, _, commit = name.partition("@")
        if (folder := Path(name)).is_dir():
            model, commit = str(folder.resolve()), ""
        with self._called():
            self.reader = ImageTextCaptioner(model, commit or None)
            self.tokenizer: Any = self.reader.processor.tokenizer
        self.identity = self.reader.identity

    @contextlib.contextmanager
    def _called(self) -> Iterator[None]:
        """Say of a captioner's error that it is of the judge."""
        try:
            yield
        except (ParameterError, EngineError) as error:
            found = brief(error, 400).partition("; ")[0].replace("captioner", "model")
            raise ParameterError(
                f"--judge is {self.name!r}: {found}; expected a model of transformers "
                "that reads pictures and questions; name its folder, or ID@COMMIT."
            ) from None

    def first_tokens(self, answer: str) -> list[int]:
        """Return the first tokens of an answer's spellings, each token once.

        The published code adds a token twice that begins two spellings; in Qwen's
        vocabulary none does. Source: geneval2.

        Raises:
            ParameterError: the judge's vocabulary has none of them.
        """
        encode = self.tokenizer.encode
        spelt = [encode(text, add_special_tokens=False) for text in spellings(answer)]
        known = {ids[0] for ids in spelt if ids} - {self.tokenizer.unk_token_id}
        lacks = f"--judge is {self.name!r}, whose vocabulary lacks {answer!r}"
        demand(bool(known), lacks, "one with the answers' words")
        return sorted(known)

    @torch.no_grad()
    def probabilities(
        self, picture: np.ndarray, questions: Sequence[str], answers: Sequence[str]
    ) -> list[float]:
        """Return how probable each answer is as the judge's next word, 0 to 1.

        These are of the whole vocabulary, as the model gives them: nothing that
        `generate` might do to them before it samples counts.

        Args:
            picture: (h, w, 3) uint8, of any size.

        Raises:
            ParameterError: the model cannot be asked so, or answers with no numbers.
        """
        asked = [WORDING.format(question) for question in questions]
        with self._called():
            inputs = self.reader.prepare([picture] * len(asked), asked)
        model = self.reader.model
        told = model.generate(
            **inputs.to(model.device, model.dtype),
            max_new_tokens=1,
            do_sample=False,
            num_beams=1,
            output_logits=True,
            return_dict_in_generate=True,
        )
        shares = torch.softmax(told.logits[0].double(), dim=-1)  # (questions, tokens)
        pairs = zip(shares, answers, strict=True)
        found = [float(row[self.first_tokens(answer)].sum()) for row, answer in pairs]
        is_finite = all(map(math.isfinite, found))
        demand(is_finite, f"--judge is {self.name!r}, which answers NaN", "numbers")
        return found


def seed_of(seed: int, prompt: str) -> int:
    """Return the seed of a prompt's starting noise, whatever its place in the file."""
    return make_generator(seed, "geneval", prompt).initial_seed()


def measure(
    questions: Path,
    judge: str,
    model: Path = MODEL,
    num: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Draw prompts with a released model and ask a judge about the pictures.

    The model draws as it was measured, each picture as `commoncanvas sample` draws it
    from the seed that is recorded. What a stopped run has done is kept.

    Args:
        questions: see `read_questions`.
        judge: see `Judge`.
        model: folder of a released model.
        num: of prompts, spread over the file; None for all.
        seed: of all starting noise.

    Returns:
        JSON-able dict: `soft_tifa`'s, what was measured by what, and for each prompt
        its line, seed and probabilities. It holds no text of the file.

    Raises:
        CommonCanvasError: no such file, judge or model, or too few prompts.
    """
    rows = read_questions(questions)
    asked = spread(rows, num)
    parts, manifest = load(model)
    asks = Judge(judge)
    for word in sorted({word for one in asked for word in one.answers}):
        asks.first_tokens(word)  # a judge without it fails before anything is drawn
    facts = manifest["facts"]
    settings = {name: facts[name] for name in ("guidance_scale", "num_inference_steps")}
    seeds = [seed_of(seed, one.prompt) for one in asked]
    for network in (parts.unet, parts.vae, parts.text_encoder):
        network.to(asks.reader.device)

    def answer(part: list[tuple[Asked, int]]) -> pa.Table:
        found = []
        for one, own in part:
            picture = draw(parts, one.prompt, own, **settings)
            found.append(asks.probabilities(picture, one.questions, one.answers))
        return pa.table({"answered": pa.array(found, pa.list_(pa.float64()))})

    sha256, files = sha256_of(questions), manifest["files"]
    key = key_of(
        model={name: file["sha256"] for name, file in files.items() if "/" in name},
        judge=asks.identity,
        questions=sha256,
        lines=[one.line for one in asked],
        settings=[seed, settings, asks.reader.device],
        code=code_hash("release.geneval"),
    )
    pairs = list(zip(asked, seeds, strict=True))
    table = run_shards(key, pairs, PROMPTS_A_SHARD, answer, "prompts drawn and judged")
    answered = table["answered"].to_pylist()
    found = {
        "benchmark": "GenEval 2, Soft-TIFA",
        "terms": TERMS,
        **soft_tifa(asked, answered),
        "num_prompts": len(asked),
        "num_prompts_of_file": len(rows),
        "num_prompts_cut": sum(
            count_tokens(parts, one.prompt) > facts["max_tokens"] for one in asked
        ),
        "questions_sha256": sha256,
        "model": model_of(manifest),
        "unet_sha256": facts["unet"],
        "judge": asks.identity,
        "device": asks.reader.device,
        "seed": seed,
        **settings,
        "prompts": [
            _prompt(one.line, own, row)
            for (one, own), row in zip(pairs, answered, strict=True)
        ],
    }
    finish(key)
    return found


def _prompt(line: int, seed: int, answered: list[float]) -> dict[str, Any]:
    am, gm, *rest = (float(f"{x:.6g}") for x in (*means(answered), *answered))
    return {"line": line, "seed": seed, "am": am, "gm": gm, "probabilities": rest}


def report(
    questions: Path, judge: str, model: Path | None, out: Path, **options: Any
) -> None:
    """Measure as `measure`; write the report, and print the two means."""
    is_json = out.suffix.lower() == ".json"
    demand(is_json, f"--out is {out}", "a file that ends in .json")
    settle()
    found = measure(questions, judge, model or MODEL, **options)
    write_json(out, found)
    for name in ("am", "gm"):
        print(f"Soft-TIFA {name.upper()}: {Estimate.from_dict(found[name]):.1%}")
    if found["num_prompts_cut"]:
        print(f"{found['num_prompts_cut']} prompts are longer than the model reads")
    print(f"wrote {shown(out)}, of {found['num_prompts']} prompts; {TERMS}")
