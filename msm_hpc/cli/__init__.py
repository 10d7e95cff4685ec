"""The msm command: its arguments, and what it prints."""
