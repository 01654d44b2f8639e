"""What import-linter's contracts (pyproject.toml) cannot say about imports."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_only_errors_and_logs_lie_outside_the_rooms():
    assert {path.name for path in (ROOT / "pipeline").glob("*.py")} == {"__init__.py", "errors.py", "logs.py"}


def test_a_driver_starts_without_torch():
    code = "import sys, pipeline.runs.run; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_parquet_file_is_read_by_threads_that_outlive_the_call():
    files = [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")]
    calls = [path for path in files if "pq.read_table(" in path.read_text()]
    assert calls == [], "see pipeline.storage.parquet.read_parquet"
