"""CommonCanvas, replicated: the thin package behind the notebooks."""

__version__ = "0.1.0"
