"""What every command does when it is stopped, or when nobody reads on."""

from __future__ import annotations

import subprocess
import sys

from tad.command import UserError, exit_code

LISTING = "from tad.command import exit_code; exit_code('list', lambda: print('line\\n' * 100000))"


def test_a_reader_that_has_enough_is_no_fault():
    """As in `tad list | head -1`."""
    command = f'{sys.executable} -c "{LISTING}" | head -1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == "line\n" and done.stderr == ""


def test_faults_are_one_line_and_ctrl_c_says_how_to_go_on(capsys):
    def refuse():
        raise UserError("a.yaml: seeds: none")

    def full():
        raise OSError(28, "No space left on device", "a.json")

    def stop():
        raise KeyboardInterrupt

    assert [exit_code("run", job) for job in (refuse, full, stop)] == [2, 2, 130]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("tad run: ") for line in lines)
    assert "a.json" in lines[1] and "the same command goes on" in lines[2]
