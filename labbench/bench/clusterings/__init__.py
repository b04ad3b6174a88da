"""How filters are gathered into clusters. A clustering has `share`; its keyword-only arguments are its knobs. Adding
one: a file, a line here, a test of what is special about it."""

from types import ModuleType

from labbench.bench.clusterings import components, cosine, k_means

CLUSTERINGS: dict[str, ModuleType] = {
    "k-means": k_means,
    "cosine": cosine,
    "components": components,
}
