"""Stage 00: VAE, captioner and scorer, trained on captioned web pictures."""
