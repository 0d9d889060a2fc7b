"""Suites: one file each, declaring a literal ``CARD = SuiteCard(...)``: what a published table refers to."""
