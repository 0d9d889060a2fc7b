"""The one exception for bad input: a clear sentence for the user, exit code 2 at the command line."""

from __future__ import annotations


class UserError(Exception):
    """Bad input. The message is one sentence that names the file, the field, the value and the remedy."""
