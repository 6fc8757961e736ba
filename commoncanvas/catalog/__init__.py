"""Stage 01: many sources to one catalogue of pictures with their licences."""
