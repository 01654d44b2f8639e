"""The Python interface for scripts and notebooks: `from pipeline import label, plan, open_labels, read_manifest`."""
