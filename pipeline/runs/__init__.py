"""Planning, driving and reporting of runs and nights."""
