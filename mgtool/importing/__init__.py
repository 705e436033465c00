"""Published weights to one model folder."""
