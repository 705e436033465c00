"""Answers and their targets to scores."""
