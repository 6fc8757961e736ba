"""A value with its interval; distances, tables, plots, figures, checks, ballots."""
