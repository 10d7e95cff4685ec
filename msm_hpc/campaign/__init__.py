"""Arms, the step graph, identities, the store: what a campaign is, and what of it is done."""
