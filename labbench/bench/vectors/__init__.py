"""Arithmetic on rows of numbers: clusters, centers, the smallest."""
