"""A corpus, whatever its files are, as rows in one order, shared out over array tasks."""
