"""Options that cannot be met are told in one line, before anything is loaded."""

from __future__ import annotations

import os

import pytest
import torch

from eval.options import OptionError, at_least, device_of, outputs, writable


def test_numbers_have_a_least_value():
    at_least(1, limit=1, batch_size=None)
    with pytest.raises(OptionError, match="--batch-size 0: must be at least 1"):
        at_least(1, limit=3, batch_size=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there():
    assert device_of(None) == device_of("cpu") == "cpu"
    for name in ("cuda", "cuda:1"):
        with pytest.raises(OptionError, match=f"--device {name}: torch finds no GPU"):
            device_of(name)
    with pytest.raises(OptionError, match="no such kind of device"):
        device_of("gpu")


def test_outputs_are_one_a_model(tmp_path):
    models = [str(tmp_path / "a"), str(tmp_path / "b")]
    with pytest.raises(OptionError, match="no such folder; give --out"):
        outputs(models, None, "x.json")
    for model in models:
        os.mkdir(model)
    assert outputs(models, None, "x.json") == [tmp_path / "a/x.json", tmp_path / "b/x.json"]
    with pytest.raises(OptionError, match="2 models, 1 outputs"):
        outputs(models, ["one"], "x.json")
    with pytest.raises(OptionError, match="same output"):
        outputs(models, [str(tmp_path / "y")] * 2, "x.json")


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch):
    assert writable(tmp_path / "new" / "folder" / "x.json").parent.is_dir()
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    with pytest.raises(OptionError, match="is a folder"):
        writable(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=r"cannot be written \(Not a directory\)"):
        writable(tmp_path / "file" / "x.json")

    def read_only(*_, **__):
        raise OSError(30, os.strerror(30))  # as of a file system that is mounted so

    monkeypatch.setattr("tempfile.NamedTemporaryFile", read_only)
    with pytest.raises(OptionError, match=r"cannot be written \(Read-only file system\)"):
        writable(tmp_path / "x.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OptionError, match="Permission denied"):
        writable(tmp_path / "x.json")
