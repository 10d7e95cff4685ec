"""From evaluation answers to one table of results, each cell traceable to the step that made it."""
