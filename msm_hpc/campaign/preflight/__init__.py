"""Everything that can be known to be wrong before a job is queued; asked only by what is about to run."""
