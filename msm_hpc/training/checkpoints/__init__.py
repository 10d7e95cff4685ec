"""Resume checkpoints and the weights of a finished training."""
