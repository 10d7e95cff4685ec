"""From a Model Spec to training text, and the pairs that ask what the training taught."""
