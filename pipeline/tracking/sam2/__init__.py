"""SAM 2's network: what differs from one model family to another."""
