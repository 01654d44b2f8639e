"""What `import pipeline` loads, and the names that it gives."""

import subprocess
import sys

import pytest

import pipeline


def loaded_by(code: str) -> set[str]:
    """Names of the modules that are loaded after the code has run in a new process."""
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_the_package_loads_no_library():
    assert not loaded_by("import pipeline") & {"numpy", "pyarrow", "torch", "ray", "duckdb", "pandas", "transformers"}


def test_every_public_name_can_be_imported():
    assert set(pipeline.__all__) <= set(dir(pipeline))
    for name in pipeline.__all__:
        assert callable(getattr(pipeline, name))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lable'"):
        pipeline.lable  # noqa: B018
