"""The schema: what a campaign is, and what each stage is given."""
