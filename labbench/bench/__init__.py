"""What an operation does to a model. Knows no screen, prints nothing, reads no environment."""
