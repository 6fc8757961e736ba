"""A quick start for commands that only draw: what drawing never uses is not imported.

diffusers and transformers load, for training and compiling, torch's compiler and
sympy, torch's processes, scipy and each other; that takes longer than ten pictures.
Here they are told, by the switches that they ask themselves, that these are absent.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


class NoCompiler(ModuleType):
    """Stands for `torch._dynamo`; whatever it marks for a compiler stays as it is."""

    def __getattr__(self, name: str) -> Callable:
        """Return a decorator that changes nothing."""
        if name.startswith("__"):
            raise AttributeError(name)
        return _same


def _same(function: Any = None, *_: Any, **__: Any) -> Any:
    return function if callable(function) else _same


def start() -> bool:
    """Import what drawing needs of diffusers and transformers, and no more.

    The process cannot use their other parts afterwards, so it must do nothing but draw.

    Returns:
        Whether that was done: not where one of them has been imported already.
    """
    if {"diffusers", "transformers", "torch._dynamo"} & sys.modules.keys():
        return False
    import torch.compiler
    import torch.distributed

    compiler = NoCompiler("torch._dynamo")
    compiler.__path__ = [str(Path(torch.__file__).with_name("_dynamo"))]
    sys.modules[compiler.__name__] = compiler
    vars(torch)["_dynamo"] = compiler
    is_available = torch.distributed.is_available
    vars(torch.distributed)["is_available"] = lambda: False
    from diffusers.utils import import_utils

    for name in ("transformers", "accelerate", "scipy"):
        setattr(import_utils, f"_{name}_available", False)
    from transformers import utils

    for place in (utils, utils.import_utils):
        vars(place)["is_scipy_available"] = functools.partial(bool, False)
    # The classes that a released model has; see `drawing`.
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import BertModel, BertTokenizer

    del AutoencoderKL, DDIMScheduler, UNet2DConditionModel, BertModel, BertTokenizer
    vars(torch.distributed)["is_available"] = is_available
    return True
