"""Stage 03: pictures and words to tensors; which works a variant trains on."""
