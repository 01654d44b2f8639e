"""Facts of the DAGs in a folder as Airflow loads them, as JSON; runs with the Python of an environment with Airflow.

python airflow_facts.py FOLDER STUBS: STUBS has an executable for each exit code, which is called in place of Python.
"""

import json
import os
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag


def outcome(task, stub: Path) -> str:
    """What the task returns or raises if the night ends with the stub's exit code."""
    os.environ["SAM2_CORPUS_PYTHON"] = str(stub)
    try:
        return f"returns {task.python_callable()}"
    except Exception as error:
        return type(error).__name__


folder, stubs = sys.argv[1:]
bag = DagBag(folder)
(dag,) = bag.dags.values()
(task,) = dag.tasks
facts = {
    "errors": bag.import_errors,
    "schedule": dag.timetable.expression,
    "timezone": str(dag.timetable.timezone) if hasattr(dag.timetable, "timezone") else repr(dag.timetable),
    "max_active_runs": dag.max_active_runs,
    "catchup": dag.catchup,
    "limits_s": [dag.dagrun_timeout.total_seconds(), task.execution_timeout.total_seconds()],
    "retries": task.retries,
    "outcomes": {stub.name: outcome(task, stub) for stub in sorted(Path(stubs).iterdir())},
}
Path(stubs, "facts.json").write_text(json.dumps(facts))
