"""Questions to the store, which never refuse."""
