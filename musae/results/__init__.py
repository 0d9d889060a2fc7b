"""Rows: what a score is once it is written down, where it lies, and how it is published.

`schema` says what a row is, `files` reads and writes them, `made` says what made them, `publish` copies validated files to
``results/``. One file holds one (dictionary, corpus, task); its bootstrap replicates lie beside it.
"""

from musae.results.files import RowFile, path_of, read, read_all, replicates_path, write
from musae.results.made import provenance
from musae.results.publish import Report, publish
from musae.results.schema import Cell, Measure, Provenance, Row, schema_text

__all__ = [
    "Cell",
    "Measure",
    "Provenance",
    "Report",
    "Row",
    "RowFile",
    "path_of",
    "provenance",
    "publish",
    "read",
    "read_all",
    "replicates_path",
    "schema_text",
    "write",
]
