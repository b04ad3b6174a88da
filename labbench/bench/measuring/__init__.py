"""What is measured of a state."""
