"""Any captioner of transformers: a model that reads a picture and writes text.

Whatever `AutoModelForImageTextToText` loads: BLIP-2, GIT, Florence-2, PaliGemma, LLaVA,
SmolVLM, Qwen-VL and their kin. Chat models are asked by their own template, others by a
bare prompt. A local folder loads in the same way as the Hub.
"""

import functools
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from commoncanvas.captions.answers import AnswerRules
from commoncanvas.core.ahead import ahead
from commoncanvas.core.determinism import make_generator
from commoncanvas.core.errors import EngineError, ParameterError, brief
from commoncanvas.core.pictures import (
    decode_picture,
    largest_center_crop,
    largest_center_square,
)
from commoncanvas.core.settings import names_of
from commoncanvas.models.weights import identity_of, pinned

MAX_SIZE = 512  # longest edge of a picture, unless the profile says more [pixels]
GENERATE = {"max_new_tokens": 128, "do_sample": False}
OWN = (  # arguments of `generate` that only this module gives
    *("attention_mask", "input_ids", "inputs", "inputs_embeds", "pixel_values"),
    *("num_return_sequences", "return_dict_in_generate", "streamer"),
    *("custom_generate", "trust_remote_code"),
)
CHATS = {"auto": None, "yes": True, "no": False, True: True, False: False}


class ImageTextCaptioner:
    """A captioner whose captions do not depend on how pictures are batched.

    Its weights are loaded when it first writes, so that a process that asks only what
    it is holds none of them.

    There are two exceptions. Half precision rounds sums whose order depends on the
    batch, which may decide a near tie the other way. And with `do_sample` tokens come
    from one global stream, which each batch seeds anew from its first key.

    Prompts are padded on the left, since a shorter one padded on the right would be
    continued from padding; the other side is an error.

    Args:
        model: a Hub id or a local folder.
        revision: the Hub commit; None for a folder.
        prompt: what is asked; of a model that does not chat, what the caption
            continues, or the token of a task.
        system: the system's turn of a chat; "" has none.
        chat: "auto" takes the model's chat template where it has one; "yes", "no".
        longest_edge: pictures are shrunk to it and never enlarged [pixels]; 0 leaves
            them as they are stored.
        square: cut the largest centre square first, as the paper does.
        dtype: of the weights, as torch names it; "auto" is the checkpoint's own on a
            GPU, and float32 elsewhere.
        generate: arguments of `generate` that differ from `GENERATE`.
        seed: of sampled tokens.
        strip, reject, cut: see `AnswerRules`.

    Raises:
        ParameterError: a Hub id without a revision, a model of another kind, or a
            setting that cannot be.
    """

    kind = "transformers"  # as a profile names it

    def __init__(
        self,
        model: Path | str,
        revision: str | None = None,
        prompt: str = "",
        system: str = "",
        chat: str | bool = "auto",
        longest_edge: int = MAX_SIZE,
        square: bool = False,
        dtype: str = "auto",
        generate: Mapping[str, Any] | None = None,
        batch_size: int = 8,
        seed: int = 0,
        strip: Sequence[str] = (),
        reject: Sequence[str] = (),
        cut: str = "reject",
    ) -> None:
        self.name, revision = pinned(model, revision)
        # Without a word, transformers asks whether to run a stranger's code.
        self.words: dict[str, Any] = {"trust_remote_code": False}
        self.words |= {"revision": revision} if revision else {}
        try:
            self.config: Any = AutoConfig.from_pretrained(self.name, **self.words)
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise ParameterError(
                f"the captioner {str(model)!r} has no configuration that transformers "
                f"reads ({brief(error)}); expected one; name another in the profile."
            ) from None
        if self.config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
            raise ParameterError(
                f"the captioner {str(model)!r} is a {self.config.model_type!r}; "
                "expected one of transformers' image-text-to-text models, such as "
                "blip-2, git, florence2 or smolvlm; name another in the profile."
            )
        if not isinstance(chat, str | bool) or chat not in CHATS:
            raise ParameterError(
                f"`chat` of a captioner is {chat!r}; expected auto, yes or no; edit "
                "`captioners` in the profile."
            )
        if batch_size < 1 or longest_edge < 0:
            raise ParameterError(
                f"a captioner has batch_size {batch_size} and longest_edge "
                f"{longest_edge}; expected 1 and 0 at least; edit `captioners` in the "
                "profile."
            )
        self.rules = AnswerRules(prompt, strip, reject, cut)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = _dtype(dtype, self.config, self.device)
        self.prompt, self.system, self.chat = prompt, system, CHATS[chat]
        self.longest_edge, self.square = longest_edge, square
        self.batch_size, self.seed = batch_size, seed
        self.options = options_of(GENERATE, generate)
        identity = identity_of("captioner", model, revision)
        dtype = str(self.dtype).removeprefix("torch.")
        self.identity = f"{self.kind}:{identity}:{dtype}"
        self.decoding = {**self.options, "prompt": prompt, "batch_size": batch_size}
        self._one_at_a_time = threading.Lock()

    @functools.cached_property
    def processor(self) -> Any:
        # Importing it takes six seconds, which the other captioners need not wait.
        from transformers import AutoProcessor

        try:
            processor: Any = AutoProcessor.from_pretrained(self.name, **self.words)
        # Of a processor that also reads videos, transformers asks for torchvision, and
        # raises AttributeError where that is missing.
        except (
            *(ImportError, AttributeError, OSError, ValueError),
            *(TypeError, KeyError, RecursionError),
        ) as error:
            raise ParameterError(
                f"the processor of the captioner {self.name!r} cannot be loaded "
                f"({brief(error)}); expected tokenizer and picture processor; install "
                "torchvision or what else it needs, or serve it as an `endpoint`."
            ) from None
        processor.tokenizer.padding_side = "left"
        return processor

    @functools.cached_property
    def is_chat(self) -> bool:
        """Whether the model is asked by its own template.

        Raises:
            ParameterError: the profile wants a template that is not there.
        """
        has_template = bool(getattr(self.processor, "chat_template", None))
        if self.chat and not has_template:
            raise ParameterError(
                f"the captioner {self.name!r} has no chat template; expected one, as "
                "`chat: yes` says; set `chat: no` in `captioners` of the profile."
            )
        return has_template if self.chat is None else self.chat

    @functools.cached_property
    def model(self) -> Any:
        from transformers import AutoModelForImageTextToText

        network: Any = AutoModelForImageTextToText.from_pretrained(
            self.name, dtype=self.dtype, **self.words
        )
        # An end that is forced at the last token would hide that an answer is cut off.
        network.generation_config.forced_eos_token_id = None
        return network.to(self.device).eval()

    def prepare(
        self, pictures: Sequence[np.ndarray], prompts: Sequence[str] | None = None
    ) -> Any:
        """Return the model's inputs for one batch, as for `caption`, on the CPU."""
        prompts = prompts or [self.prompt] * len(pictures)
        if self.is_chat:
            turns = [self._turns(*pair) for pair in zip(pictures, prompts, strict=True)]
            with self._one_at_a_time:  # tokenizers lend out their padding
                inputs = self.processor.apply_chat_template(
                    turns,
                    add_generation_prompt=True,
                    tokenize=True,
                    return_dict=True,
                    return_tensors="pt",
                    processor_kwargs={"padding": True},
                )
        elif any(prompts):
            with self._one_at_a_time:
                inputs = self.processor(
                    images=list(pictures),
                    text=list(prompts),
                    padding=True,
                    return_tensors="pt",
                )
        else:
            return self.processor(images=list(pictures), return_tensors="pt")
        is_last_read = inputs.get("attention_mask", torch.ones(1, 1))[:, -1]
        if not self.config.is_encoder_decoder and not is_last_read.all():
            raise EngineError(
                f"the captioner {self.name!r} pads prompts on the right; expected the "
                "left; set `batch_size: 1` in `captioners` of the profile."
            )
        return inputs

    def _turns(self, picture: np.ndarray, prompt: str) -> list[dict[str, Any]]:
        """Return a chat about one picture, up to the model's turn."""
        told = [{"type": "text", "text": self.system}]
        shown = {"type": "image", "image": Image.fromarray(picture)}
        asked = [{"type": "text", "text": prompt}] if prompt else []
        turns: list[dict[str, Any]] = [{"role": "user", "content": [shown, *asked]}]
        return [{"role": "system", "content": told}, *turns] if self.system else turns

    def caption(
        self, pictures: Sequence[np.ndarray], prompts: Sequence[str] | None = None
    ) -> list[str]:
        """Caption one batch of (h, w, 3) uint8 pictures, of any sizes.

        Args:
            prompts: texts, which captions do not repeat; None takes `self.prompt` for
                all.
        """
        return self.write(self.prepare(pictures, prompts))[0]

    @torch.no_grad()
    def write(self, inputs: Any) -> tuple[list[str], list[bool]]:
        """Return the answers for one batch of prepared pictures, and which are cut.

        Raises:
            ParameterError: the model does not take what `generate` says.
        """
        inputs = inputs.to(self.model.device, self.model.dtype)
        try:
            ids = self.model.generate(**inputs, **self.options)
        except (ValueError, TypeError) as error:
            raise ParameterError(
                f"the captioner {self.name!r} cannot write so ({brief(error)}); "
                f"`generate` is {self.options}; edit `captioners` in the profile."
            ) from None
        # A decoder gives the prompt and the picture's tokens back before its answer.
        asked = inputs.get("input_ids", ids[:, :0])
        start = asked.shape[1]
        if ids[:, :start].shape != asked.shape or (ids[:, :start] != asked).any():
            start = 0
        texts = self.processor.batch_decode(ids[:, start:], skip_special_tokens=True)
        # A row that ended has an end, or what fills it up to the longest, in its last.
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        ends = [*ends, self.model.generation_config.pad_token_id]
        ends = [*ends, self.processor.tokenizer.pad_token_id]
        is_cut = [last not in ends for last in ids[:, -1].tolist()]
        return [text.strip() for text in texts], is_cut

    def table(self, rows: Sequence[tuple[str, bytes]]) -> pa.Table:
        """Caption rows of (key, picture bytes): key, caption_raw, caption and reason.

        Threads decode and prepare the next pictures while the model writes.

        Raises:
            EngineError: see `AnswerRules.table`.
        """
        texts, is_cut = self._answers(rows)
        keys = [key for key, _ in rows]
        return self.rules.table(keys, texts, is_cut, repr(self.name))

    def _answers(
        self, rows: Sequence[tuple[str, bytes]]
    ) -> tuple[list[str], list[bool]]:
        starts = range(0, len(rows), self.batch_size)
        batches = [rows[start : start + self.batch_size] for start in starts]
        _ = self.is_chat  # loads the processor here, not by several threads at once
        texts: list[str] = []
        is_cut: list[bool] = []
        prepared = ahead(self._prepared, batches, 1 + torch.get_num_threads())
        for batch, inputs in zip(batches, prepared, strict=True):
            if self.options["do_sample"]:
                draws = make_generator(self.seed, "captions", batch[0][0])
                torch.manual_seed(draws.initial_seed())
            said, cut = self.write(inputs)
            texts += said
            is_cut += cut
        return texts, is_cut

    def _prepared(self, rows: Sequence[tuple[str, bytes]]) -> Any:
        edge, square = self.longest_edge, self.square
        return self.prepare([shown_picture(data, edge, square) for _, data in rows])


def shown_picture(data: bytes, longest_edge: int, square: bool) -> np.ndarray:
    """Return a stored picture as a captioner is shown it, (h, w, 3) uint8.

    It is whole or, with `square`, its centre square; shrunk to `longest_edge` [pixels]
    but never enlarged, and left as it is at 0.
    """
    picture = decode_picture(data)
    edge = min(picture.size) if square else max(picture.size)
    wanted = min(edge, longest_edge or edge)
    if square:
        return largest_center_square(picture, wanted)
    if wanted == edge:
        return np.asarray(picture)
    sides = [max(1, round(side * wanted / edge)) for side in picture.size]
    return largest_center_crop(picture, *sides)


def options_of(
    defaults: Mapping[str, Any],
    changes: Mapping[str, Any] | None,
    own: Sequence[str] = OWN,
) -> dict[str, Any]:
    """Return defaults with the changes of a profile's `generate`.

    Args:
        own: names that a captioner sets itself, by which another picture or another
            number of captions would be asked for.

    Raises:
        ParameterError: these are not names with values that JSON can hold, or name one
            of `own`.
    """
    if not isinstance(changes or {}, Mapping):
        raise ParameterError(
            f"`generate` of a captioner is {changes!r}; expected names with values, "
            "such as {max_new_tokens: 64}; edit `captioners` in the profile."
        )
    if taken := set(own) & set(changes or {}):
        raise ParameterError(
            f"`generate` of a captioner has {names_of(taken)}, which it sets itself; "
            "expected other names; edit `captioners` in the profile."
        )
    try:  # what a request sends and a manifest keeps
        json.dumps(changes, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ParameterError(
            f"`generate` of a captioner has a value that JSON cannot hold ("
            f"{brief(error)}); expected text, finite numbers, true, false and lists; "
            "edit `captioners` in the profile."
        ) from None
    return {**defaults, **(changes or {})}


def _dtype(name: str, config: Any, device: str) -> torch.dtype:
    """Return the weights' type.

    Raises:
        ParameterError: it is none.
    """
    if name == "auto":
        own = getattr(config, "dtype", None)
        return own if device == "cuda" and own is not None else torch.float32
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ParameterError(
            f"`dtype` of a captioner is {name!r}; expected auto, float32, float16 or "
            "bfloat16; edit `captioners` in the profile."
        )
    return found
