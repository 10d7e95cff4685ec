"""A model behind an OpenAI-compatible server of our own, for as long as a job needs it."""
