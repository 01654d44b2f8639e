"""sam2-corpus COMMAND: lists the commands, runs one, and says what is wrong."""

import importlib
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from jobs import label, review, submit
from jobs.command import command_names, summary_of
from jobs.command_line import Parser

ROOT = Path(__file__).parents[2]


def sam2_corpus(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "jobs", *arguments], capture_output=True, text=True, timeout=60,
                          check=False, cwd=ROOT)  # fmt: skip


def test_every_command_is_listed_with_one_line():
    done = sam2_corpus()
    assert done.returncode == 0
    for name in command_names():
        assert f"  {name:10}{summary_of(name)}" in done.stdout.splitlines()
        assert summary_of(name).endswith(".")
    assert {"label", "nightly", "publish", "query", "review", "demo", "submit"} <= set(command_names())
    assert sam2_corpus("--help").stdout == done.stdout


def test_an_unknown_command_is_wrong_usage():
    done = sam2_corpus("lable", "--manifest", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no command 'lable' (did you mean label?); commands are calibrate, ")


def test_a_command_gets_its_arguments_and_its_exit_code_is_passed_on():
    done = sam2_corpus("label", "--output", "o")
    assert (done.returncode, done.stderr) == (
        2, "error: --manifest, --model missing; give each on the command line or in --config\n",
    )  # fmt: skip
    assert "usage: python -m jobs.label" in sam2_corpus("label", "--help").stdout


def test_listing_commands_loads_none_of_them():
    code = "import sys; from jobs.__main__ import usage; usage(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not {"pyarrow", "ray", "torch", "rich", "jobs.label"} & set(loaded.split())


def test_the_installed_script_runs_it():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"sam2-corpus": "jobs.__main__:main"}


@pytest.mark.parametrize(
    "arguments",
    [("label", "--manifst", "x"), ("publish", "out", "--wait", "soon"), ("review", "apply", "out"), ("demo", "x")],
)
def test_wrong_arguments_of_a_job_are_refused_before_it_is_submitted(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        submit.main(["--address", "http://127.0.0.1:9", *arguments])
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1


def test_values_that_a_job_refuses_are_refused_before_it_is_submitted(capsys):
    arguments = ["label", "--manifest", "m", "--output", "o", "--model", "embedded", "--actors", "0"]
    assert submit.main(["--address", "http://127.0.0.1:9", *arguments]) == 2
    assert capsys.readouterr().err == "error: --actors is 0; allowed: 1 or more\n"


def test_a_misspelled_option_is_answered_with_the_nearest_one(capsys):
    with pytest.raises(SystemExit, match="2"):
        label.main(["--manifst", "x"])
    assert "--manifst (did you mean --manifest?); python -m jobs.label --help" in capsys.readouterr().err


@pytest.mark.parametrize("name", command_names())
def test_every_command_answers_wrong_options_in_one_line(name):
    assert isinstance(importlib.import_module(f"jobs.{name}").parser(), Parser)


def test_options_cannot_be_abbreviated(capsys):
    with pytest.raises(SystemExit, match="2"):
        label.main(["--manif", "x"])
    assert "unrecognized arguments: --manif" in capsys.readouterr().err


def test_a_misspelled_command_of_review_is_named(capsys):
    assert review.main(["applly", "out", "fixes.jsonl"]) == 2
    assert "'applly' is no command of jobs.review (did you mean apply?)" in capsys.readouterr().err


def test_the_version_is_that_of_the_installed_package():
    assert sam2_corpus("--version").stdout == f"sam2-corpus {metadata.version('sam2-corpus')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("doctor",), ("publish",), ("review", "list"), ("retry", "--all"), ("status",), ("query", "--describe"),
        ("report",), ("review",), ("preview", "--worst", "1"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_folder_that_no_run_wrote_is_refused(tmp_path, capsys, arguments):
    name, *rest = arguments
    run = importlib.import_module(f"jobs.{name}").main
    assert run([*rest, str(tmp_path / "misspelled")]) == 2
    assert "misspelled is not an output: no run has written labels there" in capsys.readouterr().err
    (tmp_path / "corpus" / "videos").mkdir(parents=True)
    (tmp_path / "corpus" / "videos" / "drone.mp4").write_bytes(b"theirs")
    assert run([*rest, str(tmp_path / "corpus")]) == 2
    assert "holds files of others under names that an output uses: videos/drone.mp4" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [tmp_path / "corpus"]
