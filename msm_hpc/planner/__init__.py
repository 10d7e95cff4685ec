"""What a training stage will need: memory, time, disk, and the layout that fits."""
