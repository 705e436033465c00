"""WebDataset tars: written, read, indexed and verified."""
