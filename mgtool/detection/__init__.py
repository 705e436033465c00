"""Pictures to box records."""
