"""A captioner of another family: it writes the name of the most similar picture.

It has no words of its own and no weights but ImageNet's: a picture gets the name of the
captioned web picture whose features are closest to its own. Source: im2text.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file

from commoncanvas.core import paths
from commoncanvas.core.ahead import ahead
from commoncanvas.core.files import read_json
from commoncanvas.core.images import stored_pixels
from commoncanvas.models.efficientnet import FEATURE_SIZE, closest, image_features
from commoncanvas.models.weights import identity_of

PART = "second_captioner"  # its folder in `pretrained/`


class RetrievalCaptioner:
    """Names pictures after those of a folder, which are read when first needed.

    Args:
        folder: as `pretrain.retrieval` wrote it; None takes the open world's.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = Path(folder or paths.PRETRAINED / PART)
        self.identity = f"retrieval:{identity_of(PART, self.folder)}"  # verifies files
        self.decoding = {"decoding": "nearest"}

    @functools.cached_property
    def _known(self) -> dict[str, np.ndarray]:
        """Return mean (1280,), axes (1280, width), features (pictures, width)."""
        stored = load_file(self.folder / "features.safetensors")
        return {name: values.astype(np.float32) for name, values in stored.items()}

    @functools.cached_property
    def _names(self) -> list[str]:
        return read_json(self.folder / "names.json")

    def caption(self, pixels: Sequence[np.ndarray] | np.ndarray) -> list[str]:
        """Name (h, w, 3) uint8 pictures of one size by the cosine of their features."""
        known = self._known
        features = (image_features(pixels) - known["mean"]) @ known["axes"]
        places, _ = closest(pixels, known["features"], features)
        return [self._names[place] for place in places.tolist()]

    def table(self, rows: Sequence[tuple[str, bytes]]) -> pa.Table:
        """Caption rows of (key, picture bytes) to a table of key and caption_raw."""
        cut = functools.partial(stored_pixels, width=FEATURE_SIZE)
        pixels = list(ahead(cut, [data for _, data in rows]))
        keys = [key for key, _ in rows]
        return pa.table({"key": keys, "caption_raw": self.caption(pixels)})
