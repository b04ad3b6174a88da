"""Data sets as tensors: read once, kept, resized."""
