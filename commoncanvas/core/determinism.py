"""What makes two runs the same bytes: random streams, threads, clocks, processes.

A draw at step 900 is the same whether the run was interrupted or not, and adding a draw
for one purpose moves no other.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commoncanvas.core.keys import key_of

if TYPE_CHECKING:
    import torch


# By these a reader's machine would decide what a stage writes: beginnings of names.
DROPPED = (
    *("PYTHON", "IPYTHON", "JUPYTER", "JPY_", "MPL", "MATPLOTLIB", "LANG", "LC_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "NUMEXPR_"),
    *("ONEDNN_", "DNNL_", "ATEN_", "NPY_", "ARROW_", "PANDAS_", "NVIDIA_TF32"),
    *("TORCH_", "TORCHDYNAMO_", "TORCHINDUCTOR_", "ACCELERATE_", "DIFFUSERS_", "USE_"),
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "FORCE_COLOR", "NO_COLOR", "CLICOLOR"),
)
KEPT = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "TORCH_HOME")


def make_generator(seed: int, purpose: str, step: int | str = 0) -> "torch.Generator":
    """Return a CPU `torch.Generator` that depends on the three arguments alone."""
    import torch  # seconds; the runner, which imports this module, needs none of it

    mixed = int(key_of(seed=seed, purpose=purpose, step=step), 16)
    return torch.Generator().manual_seed(mixed % 2**63)


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask Linux to end this process when its parent dies; elsewhere do nothing.

    A killed `dvc` would leave a stage's kernel running beside the next, and a killed
    kernel its training processes.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # 1 is PR_SET_PDEATHSIG


def set_environment(settings: Mapping[str, Any], empty: Path) -> None:
    """Fix the environment of the kernel: threads, hashes, clocks, widths, network.

    What the reader's machine sets for Python, Jupyter and the libraries is dropped.

    Args:
        settings: `num_threads` and `offline` count.
        empty: a folder without configuration, where Jupyter looks for kernels first.
    """
    if os.environ.get("DVC_STAGE"):
        die_with_parent()
    for name in [n for n in os.environ if n.startswith(DROPPED) and n not in KEPT]:
        del os.environ[name]
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = str(settings.get("num_threads", 1))
    no_style = empty / "matplotlibrc"
    no_style.touch()
    os.environ |= {
        "IPYTHONDIR": str(empty),
        "JUPYTER_PATH": str(empty),
        "JUPYTER_RUNTIME_DIR": str(empty),
        "MATPLOTLIBRC": str(no_style),
        "PYTHONPATH": str(Path(__file__).parents[2]),  # this package, whatever else is
        "PYTHONNOUSERSITE": "1",
        "PYTHONUTF8": "1",
        "LC_ALL": "C.UTF-8",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": "0",
        "TZ": "UTC",
        "COLUMNS": "88",  # the width of text tables, else the reader's terminal
        "LINES": "40",
        "TOKENIZERS_PARALLELISM": "false",
        # ipywidgets is left out on purpose: its ids are random, text bars are not.
        "PYTHONWARNINGS": "ignore:IProgress not found",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        # glibc hands large blocks back after every step; keeping them trains a
        # quarter faster on a CPU (page faults).
        "MALLOC_MMAP_THRESHOLD_": str(2**32),
        "MALLOC_TRIM_THRESHOLD_": str(2**33),
    }
    if settings.get("offline") is True:
        os.environ["HF_HUB_OFFLINE"] = "1"


def settle() -> None:
    """Make pictures the same on any number of cores, and the libraries quiet."""
    import torch
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(1)
    diffusers_logging.set_verbosity_error()  # it expects the text encoder of CLIP
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
