"""Training with Megatron-core: packed shards and weights in, a checkpoint out."""
