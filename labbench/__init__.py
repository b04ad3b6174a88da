"""labbench: an interactive lab bench in the terminal for pruning neural networks by hand."""

TYPE_CHECKING = False  # as type checkers know it: nothing is imported here, not even typing (see __main__.py)
if TYPE_CHECKING:
    from labbench.bench.exports import load_model as load_model

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`load_model`, once it is asked for: front ends import this package, and never torch."""
    if name == "load_model":
        from labbench.bench.exports import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
