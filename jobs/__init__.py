"""Commands: each module runs as `python -m jobs.NAME` or `sam2-corpus NAME`; `--help` explains it."""

import os

# Ray reads this at import: a local Ray then listens on loopback only.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
