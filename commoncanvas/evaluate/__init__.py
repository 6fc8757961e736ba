"""Stage 05: samples drawn, measured, compared with the works, credited."""
