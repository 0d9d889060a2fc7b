"""Fixtures that every test here shares; see `toy`."""

import pytest
import toy


@pytest.fixture
def corpus() -> toy.FakeCorpus:
    return toy.FakeCorpus()


@pytest.fixture
def generator() -> toy.FakeGenerator:
    return toy.FakeGenerator()


@pytest.fixture
def make_tokens():
    return toy.make_tokens
