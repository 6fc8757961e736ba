"""Processes that do not outlive the one that started them."""

import ctypes
import signal
import sys


def die_with_parent():
    """Ask Linux to end this process when its parent dies; elsewhere do nothing.

    A killed `dvc` would leave a stage's kernel running beside the next, and a killed
    kernel its training processes.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG
