"""labbench: an interactive lab bench in the terminal for pruning neural networks by hand."""

__version__ = "0.1.0"
