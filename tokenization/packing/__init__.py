"""Which documents, and how much of them, share a training row."""
