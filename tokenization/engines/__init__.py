"""Text to token ids: the reference, the engines that are faster, and the choice of one that is proved exact."""
