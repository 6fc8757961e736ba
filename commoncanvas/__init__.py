"""CommonCanvas, replicated: the thin package behind the notebooks."""
