"""What the commands print, one view a file."""
