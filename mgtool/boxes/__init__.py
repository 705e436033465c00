"""Object boxes: suppression, filters, files, and which belong to which picture."""
