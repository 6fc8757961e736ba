"""Stage 06: the paper's claims, the rules that judge them, people's preferences."""
