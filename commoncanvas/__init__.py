"""CommonCanvas, replicated: the thin package behind the notebooks."""

__version__ = "0.2.0.dev0"
