"""What goes wrong while training runs: signals, hangs, lost ranks, spikes."""
