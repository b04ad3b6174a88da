"""What is removed first. A method of granularity "weight" has `select`, one of granularity "filter" has `score`; its
keyword-only arguments are its knobs. Adding one: a file, a line here, a test of what is special about it."""

from types import ModuleType

from labbench.bench.methods import group_magnitude, magnitude, random

METHODS: dict[str, ModuleType] = {
    "magnitude": magnitude,
    "random": random,
    "group-magnitude": group_magnitude,
}
