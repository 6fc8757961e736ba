"""BLIP-2 through transformers, the captioner of the paper.

Checkpoint and revision are parameters; a local folder loads in the same way as the Hub.
Where the paper is silent, decoding is LAVIS's default for this class.
Source: commoncanvas-cvpr, §4.2; blip2; lavis, blip2_opt.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoConfig

from commoncanvas.core.ahead import ahead
from commoncanvas.core.determinism import make_generator
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.pictures import decode_picture, largest_center_square
from commoncanvas.models.weights import identity_of, pinned

MODEL = "Salesforce/blip2-opt-2.7b"
REVISION = "59a1ef6c1e5117b3f65523d1c6066825bcf315e3"  # of `MODEL`
DECODING = {"num_beams": 5, "max_new_tokens": 30, "min_length": 1, "do_sample": False}
MAX_SIZE = 512  # edge of the centre square it is handed, at most [pixels]; CVPR, §4.2


class Blip2Captioner:
    """BLIP-2, whose captions do not depend on how pictures are batched.

    Its weights are loaded when it first writes, so that a process that asks only what
    it is holds none of them.

    There are two exceptions. Half precision rounds sums whose order depends on the
    batch, which may decide a near tie the other way. And with `do_sample` tokens come
    from one global stream, which each batch seeds anew from its first key.

    Prompts are padded on the left, since a shorter one padded on the right would be
    continued from padding; OPT counts its positions from the attention mask. Language
    models that have an encoder are refused, because this was not tried with them.

    Args:
        model: a Hub id or a local folder.
        revision: the Hub commit; None for a folder, and `REVISION` for `MODEL`.
        prompt: what the caption continues; empty as in the paper.
        decoding: arguments of `generate` that differ from LAVIS's (`DECODING`).
        seed: of sampled tokens.

    Raises:
        ParameterError: a Hub id without a revision; a language model with an encoder.
    """

    def __init__(
        self,
        model: Path | str = MODEL,
        revision: str | None = None,
        prompt: str = "",
        decoding: dict[str, Any] | None = None,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        revision = revision or (REVISION if model == MODEL else None)
        self.name, revision = pinned(model, revision)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = torch.float16 if self.device == "cuda" else torch.float32
        self.words: dict[str, Any] = {"revision": revision} if revision else {}
        config = AutoConfig.from_pretrained(self.name, **self.words)
        if config.text_config.is_encoder_decoder:
            raise ParameterError(
                f"the captioner {model!r} has an encoder-decoder language model; a "
                "decoder such as OPT is expected. Use blip2-opt-2.7b, the paper's."
            )
        self.prompt, self.batch_size, self.seed = prompt, batch_size, seed
        self.options = {**DECODING, **(decoding or {})}
        identity = identity_of("captioner", model, revision)
        self.identity = f"blip2:{identity}:{str(self.dtype).removeprefix('torch.')}"
        self.decoding = {**self.options, "prompt": prompt, "batch_size": batch_size}

    @functools.cached_property
    def processor(self) -> Any:
        # Importing it takes six seconds, which the other captioners need not wait.
        from transformers import Blip2Processor

        processor = Blip2Processor.from_pretrained(self.name, **self.words)
        processor.tokenizer.padding_side = "left"
        return processor

    @functools.cached_property
    def model(self) -> Any:
        from transformers import Blip2ForConditionalGeneration

        network: Any = Blip2ForConditionalGeneration.from_pretrained(
            self.name, dtype=self.dtype, **self.words
        )
        return network.to(self.device).eval()

    def prepare(
        self, pictures: Sequence[np.ndarray], prompts: Sequence[str] | None = None
    ) -> Any:
        """Return the model's inputs for one batch, as for `caption`, on the CPU."""
        prompts = prompts or [self.prompt] * len(pictures)
        words: dict[str, Any] = {}
        if any(prompts):
            words = {"text": list(prompts), "padding": True}
        return self.processor(images=list(pictures), return_tensors="pt", **words)

    def caption(
        self, pictures: Sequence[np.ndarray], prompts: Sequence[str] | None = None
    ) -> list[str]:
        """Caption one batch of (h, w, 3) uint8 pictures, of any sizes.

        Args:
            prompts: texts, which captions continue and do not repeat; None takes
                `self.prompt` for all.
        """
        return self.write(self.prepare(pictures, prompts))

    @torch.no_grad()
    def write(self, inputs: Any) -> list[str]:
        """Caption one batch of prepared pictures."""
        inputs = inputs.to(self.model.device, self.model.dtype)
        ids = self.model.generate(**inputs, **self.options)
        # Prompt and picture tokens come back before the caption, where there are any.
        start = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
        texts = self.processor.batch_decode(ids[:, start:], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def table(self, rows: Sequence[tuple[str, bytes]]) -> pa.Table:
        """Caption rows of (key, picture bytes) to a table of key and caption_raw.

        Threads decode and prepare the next pictures while the model writes.
        """
        starts = range(0, len(rows), self.batch_size)
        batches = [rows[start : start + self.batch_size] for start in starts]
        _ = self.processor  # loaded here, not by several threads at once
        texts: list[str] = []
        prepared = ahead(self._prepared, batches, 1 + torch.get_num_threads())
        for batch, inputs in zip(batches, prepared, strict=True):
            if self.options["do_sample"]:
                draws = make_generator(self.seed, "captions", batch[0][0])
                torch.manual_seed(draws.initial_seed())
            texts += self.write(inputs)
        return pa.table({"key": [key for key, _ in rows], "caption_raw": texts})

    def _prepared(self, rows: Sequence[tuple[str, bytes]]) -> Any:
        return self.prepare([square_at_most(data) for _, data in rows])


def square_at_most(data: bytes, size: int = MAX_SIZE) -> np.ndarray:
    """Return a stored picture's centre square, shrunk to `size` but never enlarged."""
    picture = decode_picture(data)
    return largest_center_square(picture, min(size, *picture.size))
