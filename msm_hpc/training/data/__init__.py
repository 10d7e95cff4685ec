"""What a run trains on: packed rows, their order, and the check that their files are whole."""
