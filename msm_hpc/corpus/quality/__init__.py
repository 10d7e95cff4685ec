"""Quality gates of a corpus: what in its rows would spoil a training or an evaluation, counted against limits.

Each gate is a pure function over rows, which it goes through once and does not keep.
"""
