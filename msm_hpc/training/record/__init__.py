"""What is written down of a training: metrics, TensorBoard, summary."""
