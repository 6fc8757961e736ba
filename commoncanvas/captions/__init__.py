"""Stage 02: pictures to words, and what that loses."""
