"""Lists of captions in json lines, as evaluation protocols hand them out.

GPIC's contract is 50,000 captions, one sample each at guidance 1, and distances in
DINOv2 features; docs/HOWTO.md says which settings give it. Source: gpic.
"""

import json
from pathlib import Path

import pandas as pd

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError, brief
from commoncanvas.core.files import shown

NAMES = ("key", "caption", "caption_type")
TYPES = ("tag", "short", "medium", "long")  # how long GPIC's captions are


def gpic_captions(file: Path | str, pictures: Path | str = "") -> pd.DataFrame:
    """Return GPIC's captions for evaluation, in the file's order.

    Args:
        file: gpic_eval_50k.jsonl, from the repository's folder: a json object a line,
            with key, caption and caption_type.
        pictures: test_stats.npz, the features of their pictures, for `references`.

    Returns:
        DataFrame of text: prompt; id, gpic/<type>_<key>, after which the contract names
        a sample's file; source "gpic"; category, the caption's type.

    Raises:
        ParameterError: the file is missing, or a line is not such an object.
    """
    path, rows = paths.ROOT / file, list[tuple[str, str, str, str]]()
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                key, caption, kind = (row[name] for name in NAMES)
                if kind not in TYPES or not isinstance(caption, str):
                    raise ValueError(f"caption_type {kind!r}, caption {caption!r}")
                rows.append((caption, f"gpic/{kind}_{key}", "gpic", kind))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ParameterError(
            f"{shown(path)}, after {len(rows):,} captions: {type(error).__name__}: "
            f"{brief(error)}; "
            f"expected a json object with {', '.join(NAMES)} in every line; fetch it "
            "again, or name another `file` in `prompt_sets` of the profile."
        ) from None
    return pd.DataFrame(rows, columns=["prompt", "id", "source", "category"])
