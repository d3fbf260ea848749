"""The command line as a whole: faults in a line or two, `~`, help, completion, no home."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
from conftest import ROOT, run_command

from rewact_ros import home
from rewact_ros.cli.app import COMMANDS as TABLE
from rewact_ros.cli.app import app
from rewact_ros.cli.faults import INTERRUPTED, MENDABLE, UNEXPECTED, exit_code
from rewact_ros.data.dataset.info import DatasetError
from rewact_ros.stack.keyboard_recorder import _print_above
from rewact_ros.stack.learner import SimulatedRobot
from rewact_ros.text import reason

SCRIPT = Path(sys.executable).with_name("rewact")


def commands(command, path=()):
    """Every command of the tree with its words."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))
    else:
        yield path, command


COMMANDS = dict(commands(typer.main.get_command(app)))


def raising(error: BaseException):
    def command():
        raise error

    return command


def foreign(error: Exception):
    """Raised by a line that is no part of the project."""
    space = {"__name__": "somebody.elses", "error": error}
    exec("def command():\n    raise error", space)
    return space["command"]


FAULTS = {
    "own": (raising(DatasetError("meta: expected 1, got 2; mend")), MENDABLE, ["meta: expected"]),
    "full": (raising(OSError(errno.ENOSPC, "No space left", "/x/y")), MENDABLE, ["/x/y", "room"]),
    "denied": (
        raising(PermissionError(errno.EACCES, "Denied", "/x")),
        2,
        ["/x", "right"],
    ),
    "read-only": (raising(OSError(errno.EROFS, "Read-only file system", "/x")), 2, ["/x", "right"]),
    "two files": (raising(OSError(errno.EXDEV, "Cross-device", "/a", None, "/b")), 2, ["/a -> /b"]),
    "memory": (raising(MemoryError("8 GiB")), MENDABLE, ["out of memory (8 GiB)", "at a time"]),
    "module": (raising(ModuleNotFoundError("No module named 'x'", name="x")), 2, ["install"]),
    "key": (raising(KeyError("x")), UNEXPECTED, ["KeyError: 'x'", "REWACT_TRACEBACK=1"]),
    "slip": (raising(NotImplementedError()), UNEXPECTED, ["NotImplementedError", "test_cli.py"]),
    "foreign": (foreign(ValueError("bad\nmagic")), UNEXPECTED, ["ValueError: bad", "not foreseen"]),
    "interrupt": (raising(KeyboardInterrupt()), INTERRUPTED, ["interrupted"]),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_becomes_a_line_or_two_and_an_exit_code(case, capsys, monkeypatch):
    monkeypatch.delenv("REWACT_TRACEBACK", raising=False)
    command, code, words = FAULTS[case]
    assert exit_code(command) == code
    said = capsys.readouterr()
    assert all(word in said.err for word in words) and not said.out
    assert said.err.count("\n") <= 2 and "Traceback" not in said.err


def test_a_traceback_is_shown_to_who_asks(capsys, monkeypatch):
    monkeypatch.setenv("REWACT_TRACEBACK", "1")
    assert exit_code(raising(KeyError("x"))) == UNEXPECTED
    assert "Traceback" in capsys.readouterr().err


def test_a_name_from_elsewhere_does_not_steer_the_terminal(capsys):
    assert exit_code(raising(DatasetError("a\x1b[2Jb\x07 é\r"))) == MENDABLE
    assert capsys.readouterr().err == "error: a\\x1b[2Jb\\x07 é\\r\n"


def test_a_reader_that_leaves_early_and_a_full_disk_leave_no_traceback():
    first = subprocess.run(
        ["bash", "-c", f"{SCRIPT} params | head -1"], capture_output=True, text=True, timeout=240
    )
    assert first.stdout.count("\n") == 1 and not first.stderr
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [SCRIPT, "params"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=240
        )
    assert done.returncode == MENDABLE and "Traceback" not in done.stderr
    assert "No space left on device; make room" in done.stderr


@pytest.mark.parametrize("form", ["--plots=~/new/run", "--plots ~/new/run"])
def test_the_home_is_written_out_in_every_option(form, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run_command(monkeypatch, "label", "--dataset=~/none", *form.split(" ")) == MENDABLE
    assert f"error: {tmp_path}/own/none: no LeRobotDataset" in capsys.readouterr().err
    assert not (tmp_path / "~").exists()


WORDS = {
    "~": "/users/me",
    "~/a/~b": "/users/me/a/~b",
    "--out=~/a": "--out=/users/me/a",
    "--text=a=~/b": "--text=a=~/b",
    "a~": "a~",
    "~backup": "~backup",
    "--policy=none": "--policy=none",
    "-1": "-1",
}


@pytest.mark.parametrize("word", WORDS)
def test_only_a_leading_home_is_written_out(word, monkeypatch):
    monkeypatch.setenv("HOME", "/users/me")
    assert home.expand_home(word) == WORDS[word]


def test_a_home_that_nobody_knows_is_refused_by_option(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without HOME and passwd
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "ROS_HOME", "LOGNAME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert run_command(monkeypatch, "params", "--out=~/x") == MENDABLE
    assert "--out=~/x: ~ is nobody's home here" in capsys.readouterr().err


def test_a_user_without_a_home_gets_private_caches(monkeypatch, tmp_path, capsys):
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "ROS_HOME", "LOGNAME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert home.cache_home() == tmp_path / f"rewact-{os.getuid()}" / "cache"
    folder = tmp_path / f"rewact-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.environ["ROS_HOME"] == str(folder / "ros")
    assert str(folder) in capsys.readouterr().err


def test_a_planted_folder_is_not_taken_for_the_private_one(monkeypatch, tmp_path):
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "ROS_HOME", "LOGNAME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"rewact-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    cache = home.cache_home()
    assert cache.parent.name != f"rewact-{os.getuid()}" and "elsewhere" not in str(cache.resolve())


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_shows_whole_names_of_options_at_80_columns(words, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    assert run_command(monkeypatch, *words, "--help") == 0
    shown = capsys.readouterr().out
    names = [
        name
        for parameter in COMMANDS[words].params
        if parameter.param_type_name == "option"
        for name in (*parameter.opts, *parameter.secondary_opts)
    ]
    assert all(f"{name} " in shown or f"{name}\n" in shown for name in names)
    assert max(map(len, shown.splitlines())) <= 80 and "…" not in shown.replace("rewact …", "")


WRITERS = {
    "train": ["train", "--dataset", "none", "--out"],
    "eval": ["eval", "--policy", "none", "--out"],
    "eval record": ["eval", "--policy", "none", "--record"],
    "finetune": [
        "finetune",
        "--policy",
        "none",
        "--demos",
        "none",
        "--interventions",
        "none",
        "--out",
    ],
    "train-classifier": ["train-classifier", "--dataset", "none", "--out"],
    "train-reward": [
        "train-reward",
        "--policy",
        "none",
        "--demos",
        "none",
        "--judged",
        "none",
        "--out",
    ],
    "visualise": ["visualise", "--policy", "none", "--dataset", "none", "--out"],
    "learn": ["learn", "--sim", "--out"],
}


@pytest.mark.parametrize("command", WRITERS)
def test_an_out_folder_that_cannot_be_written_is_told_before_anything_is_read(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert run_command(monkeypatch, *WRITERS[command], "file/run") == MENDABLE
    said = capsys.readouterr().err
    assert f"{tmp_path}/file: Not a directory; check the path" in said and said.count("\n") == 1
    assert run_command(monkeypatch, *WRITERS[command], "/proc/run") == MENDABLE  # not even by root
    assert "error: /proc: " in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        (errno.EEXIST, "a file stands where a folder should"),
        (errno.EACCES, "get the right"),
        (errno.ELOOP, "check the path"),
        (errno.ENOTEMPTY, "Directory not empty"),
    ],
)
def test_what_the_system_refuses_is_told_with_place_and_mend_and_without_its_number(code, mend):
    """Nodes and commands that end by themselves say it in these words too."""
    told = reason(OSError(code, os.strerror(code), "/bags"))
    assert told.startswith(f"/bags: {os.strerror(code)}") and mend in told and "Errno" not in told
    assert reason(ValueError("rate: too high")) == "rate: too high"
    assert reason(OSError(code, "no", "/bags"), "/bags").startswith("no")
    assert reason(ValueError("/a/b.json: line 1"), "/a/b.json") == "line 1"


def test_demos_tells_what_the_system_refuses_in_those_words(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    assert run_command(monkeypatch, "demos", "--out", str(tmp_path / "file" / "run")) == MENDABLE
    said = capsys.readouterr().err
    assert "Not a directory; check the path" in said and "Errno" not in said


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_the_simulation_does_not_have_is_refused_before_anything_starts(speed):
    with pytest.raises(ValueError, match=f"^speed: expected 0.05 to 20.0, got {speed}"):
        SimulatedRobot(1, 0, None, speed)
    SimulatedRobot(1, 0, None, 4.0)


def test_a_log_of_record_steers_no_terminal_where_there_is_none(capsys):
    _print_above("recorder | started")
    assert capsys.readouterr().out.endswith(" recorder | started\n")
    _print_above("recorder | started")
    assert "\x1b" not in capsys.readouterr().out


def test_version(monkeypatch, capsys):
    assert run_command(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == "rewact_ros 0.1.0\n"


def test_completion_is_installed_and_completes_commands_and_options(tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"}
    installed = subprocess.run(
        # The shell is found among the parents, so bash has to stay one: no exec of a last command.
        ["bash", "-c", f"PATH={SCRIPT.parent}:$PATH rewact --install-completion bash; exit $?"],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr
    (script,) = (tmp_path / ".bash_completions").glob("rewact.sh")
    assert "_REWACT_COMPLETE" in script.read_text()
    for typed, wanted in (("rewact exp", "export"), ("rewact train --imit", "--imitate-failures")):
        asked = environment | {"_REWACT_COMPLETE": "complete_bash", "COMP_WORDS": typed}
        asked["COMP_CWORD"] = str(len(typed.split()) - 1)
        done = subprocess.run(
            [SCRIPT], env=asked, check=True, capture_output=True, text=True, timeout=240
        )
        assert done.stdout.split() == [wanted]


def run_python(code):
    """A fresh interpreter's output: what a process of its own loads."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )


def test_the_command_table_imports_nothing_heavy():
    """Help and completion wait for what the commands import, so they import late."""
    code = (
        "import sys, importlib; from rewact_ros.cli.app import COMMANDS\n"
        "for file, _ in COMMANDS.values(): importlib.import_module(f'rewact_ros.cli.{file}')\n"
        "print(*sorted(sys.modules))"
    )
    done = run_python(code)
    heavy = {
        "torch",
        "lerobot",
        "cv2",
        "matplotlib",
        "pandas",
        "mujoco",
        "pyarrow",
        "rich",
        "scipy",
    }
    assert not heavy & set(done.stdout.split())


def test_the_table_is_shown_without_loading_a_command_and_in_the_commands_own_words():
    code = (
        "import sys; sys.argv = ['rewact', '--help']; from rewact_ros.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = run_python(code)
    loaded = {name for name in done.stderr.split() if name.startswith("rewact_ros.cli.")}
    assert loaded == {"rewact_ros.cli.app", "rewact_ros.cli.faults"}
    shown = "".join(done.stdout.split())  # a line may break at a hyphen
    table = typer.main.get_command(app)
    for name in TABLE:
        help_ = table.get_command(click.Context(table), name).help or ""
        words = help_.partition("\n\n")[0]
        assert words and name + "".join(words.split()) in shown, name
