"""A model and all that is remembered of it: made, kept, changed by hand."""
