"""BLIP-2 through transformers, the captioner of the paper.

Checkpoint and revision are parameters. Where the paper is silent, decoding is LAVIS's
default for this class, and an answer is a caption as it comes.
Source: commoncanvas-cvpr, §4.2; blip2; lavis, blip2_opt.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from commoncanvas.captions.image_text import ImageTextCaptioner, options_of
from commoncanvas.core.errors import ParameterError

MODEL = "Salesforce/blip2-opt-2.7b"
REVISION = "59a1ef6c1e5117b3f65523d1c6066825bcf315e3"  # of `MODEL`
DECODING = {"num_beams": 5, "max_new_tokens": 30, "min_length": 1, "do_sample": False}
MAX_SIZE = 512  # edge of the centre square it is handed, at most [pixels]; CVPR, §4.2


class Blip2Captioner(ImageTextCaptioner):
    """BLIP-2 as the paper used it; see `ImageTextCaptioner`.

    OPT counts its positions from the attention mask. Language models that have an
    encoder are refused, because the paper's has none.

    Args:
        revision: the Hub commit; None for a folder, and `REVISION` for `MODEL`.
        prompt: what the caption continues; empty as in the paper.
        decoding: arguments of `generate` that differ from LAVIS's (`DECODING`).

    Raises:
        ParameterError: a Hub id without a revision; a language model with an encoder.
    """

    kind = "blip2"

    def __init__(
        self,
        model: Path | str = MODEL,
        revision: str | None = None,
        prompt: str = "",
        decoding: dict[str, Any] | None = None,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(
            model,
            revision or (REVISION if model == MODEL else None),
            prompt,
            chat="no",
            longest_edge=MAX_SIZE,
            square=True,
            dtype="float16" if torch.cuda.is_available() else "float32",
            generate=options_of(DECODING, decoding),
            batch_size=batch_size,
            seed=seed,
            cut="keep",
        )
        language = getattr(self.config, "text_config", self.config)
        if language.is_encoder_decoder:
            raise ParameterError(
                f"the captioner {model!r} has an encoder-decoder language model; a "
                "decoder such as OPT is expected. Use blip2-opt-2.7b, the paper's."
            )

    def table(self, rows: Sequence[tuple[str, bytes]]) -> pa.Table:
        """Caption rows of (key, picture bytes) to a table of key and caption_raw."""
        texts, _ = self._answers(rows)
        return pa.table({"key": [key for key, _ in rows], "caption_raw": texts})
