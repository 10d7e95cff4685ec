"""What each command of ``msm`` does: a function each, whose parameters and docstring are its arguments and its help."""
