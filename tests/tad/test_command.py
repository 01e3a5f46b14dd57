"""Faults of a user's input or disk are one line; others keep their traceback."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
from safetensors import SafetensorError

from tad import cli
from tad.command import UserError, exit_code

LISTING = "from tad.command import exit_code; exit_code('list', lambda: print('line\\n' * 100000))"


def test_a_reader_that_has_enough_is_no_fault():
    """As in `tad list | head -1`."""
    command = f'{sys.executable} -c "{LISTING}" | head -1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == "line\n" and done.stderr == ""


def code(error: BaseException) -> int:
    def job() -> None:
        raise error

    return exit_code("run", job)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "a/b.bin"),
        SafetensorError("Error while serializing: I/O error: ... (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
    ],
)
def test_a_full_disk_is_one_line_with_the_cure(capsys, error):
    assert code(error) == 2
    told = capsys.readouterr().err
    assert told.endswith("make room or choose another place, and the same command goes on\n")
    assert told.count("\n") == 1


def test_other_faults(capsys):
    assert code(UserError("x.yaml: seeds: 3")) == code(IsADirectoryError(21, "Is", "x")) == 2
    assert "make room" not in capsys.readouterr().err
    assert code(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "tad run: stopped; the same command goes on\n"
    with pytest.raises(RuntimeError, match="ours"):
        code(RuntimeError("ours"))


def test_ctrl_c_while_the_libraries_load(capsys, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", interrupted)
    assert cli.main(["pretrain", "--help"]) == 130
    assert capsys.readouterr().err == "tad pretrain: stopped; the same command goes on\n"
