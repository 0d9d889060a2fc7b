"""Where the published rows are that a command compares with."""

from __future__ import annotations

from pathlib import Path

from musae.card import SuiteCard


def checkout_results() -> list[Path]:
    """The published rows of the checkout that this package runs from: a folder, or nothing."""
    folder = Path(__file__).resolve().parents[2] / "results"
    return [folder] if folder.is_dir() else []


def of_suite(suite: SuiteCard) -> list[Path]:
    """Those of one suite, as it is now: a folder, or nothing."""
    folders = [folder / f"{suite.name.replace('/', '~')}@{suite.version}" for folder in checkout_results()]
    return [folder for folder in folders if folder.is_dir()]
