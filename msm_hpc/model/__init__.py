"""What is known of a model without torch: architecture, layout, precision, adapter, FLOPs, GPUs."""
