"""Shared by the tests of the screens: what a test leaves open is closed after it."""

import pytest

from labbench.session import jsonl


@pytest.fixture(autouse=True)
def closed_files(monkeypatch):
    """Every session file that a record left open."""
    writers = []
    begin = jsonl.Writer.__init__

    def kept(self, *arguments, **options):
        begin(self, *arguments, **options)
        writers.append(self)

    monkeypatch.setattr(jsonl.Writer, "__init__", kept)
    yield
    for writer in writers:
        writer.close()
