"""One run and one night: plan, drive, report."""
