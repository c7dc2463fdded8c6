"""Conformance suites for extensions. They need pytest, which the author of an extension installs."""
