"""A method whose author was called away: its card cannot be read without running it."""

from musae.card import MethodCard

SUMMARY = "to be finished"

CARD = MethodCard(
    name="half_written",
    summary=SUMMARY,
)
