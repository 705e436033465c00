"""Samples to tars."""
