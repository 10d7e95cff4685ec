"""How far a model's answers to open questions agree with the spec."""
