"""Megatron-core's model, optimizer and parallelism, set up for us."""
