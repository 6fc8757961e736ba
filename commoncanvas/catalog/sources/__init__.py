"""One module a kind of source; each gives rows with the columns of `columns`."""
