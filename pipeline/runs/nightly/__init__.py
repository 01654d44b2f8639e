"""Nightly runs: manifests by pattern, a time and a budget, a history, and a page per night."""
