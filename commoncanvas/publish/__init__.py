"""Pages, documents, the released model and the results that are kept."""
