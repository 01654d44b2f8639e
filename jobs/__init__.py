"""Commands: each module is run as `python -m jobs.NAME`; `--help` tells what it does."""

import os

# Ray reads this when it is imported: a Ray started by a command listens on loopback only.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
