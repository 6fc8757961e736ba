"""Stage 07: measured speed-ups, and the plan of what a run will cost."""
