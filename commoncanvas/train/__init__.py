"""Stage 04: the recipe, from one batch to many machines."""
