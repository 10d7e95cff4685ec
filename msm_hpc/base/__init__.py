"""The ground: errors, files, progress, and the end of a process that is stuck."""
