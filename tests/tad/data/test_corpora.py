"""tad.data.corpora: every kind of source gives clean documents, or one line that says why not."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tad.data import corpora, files
from tad.data.corpora import CorpusError, clean_docstring, describe, docstrings, documents
from tad.experiment.schema import Corpus

SAMPLES = Path(__file__).parents[3].parent / "shared" / "data" / "corpora"
TEXTS = ["First text.", "Zweiter Text, größer.", "three\nlines\n\nof text", "four\u2028not two"]


def corpus(**keys) -> Corpus:
    return Corpus.model_validate({"tokens": 1, "validation_tokens": 1, **keys})


def local(path, **keys) -> Corpus:
    return corpus(source="local", path=str(path), **keys)


def read(path, **keys) -> list[str]:
    return list(documents(local(path, **keys)))


def jsonl(texts, field="text") -> bytes:
    return "".join(json.dumps({field: text}, ensure_ascii=False) + "\n" for text in texts).encode()


def refused(path, **keys) -> str:
    """The one line of the CorpusError that reading ``path`` ends in."""
    with pytest.raises(CorpusError) as caught:
        read(path, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- local files ---------------------------------------------------------------------------------


@pytest.fixture
def formats(tmp_path) -> dict[str, Path]:
    """TEXTS in every kind of file."""
    files = {kind: tmp_path / kind / f"part.{kind}" for kind in ("jsonl", "jsonl.gz", "parquet")}
    for path in files.values():
        path.parent.mkdir()
    files["jsonl"].write_bytes(jsonl(TEXTS))
    files["jsonl.gz"].write_bytes(gzip.compress(jsonl(TEXTS)))
    pq.write_table(pa.table({"id": range(4), "text": TEXTS}), files["parquet"], row_group_size=3)
    return files


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_every_format_gives_the_same_documents(formats, kind):
    assert read(formats[kind]) == TEXTS
    assert read(formats[kind].parent) == TEXTS


def test_folder_and_glob_are_read_in_order_of_names(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.txt").write_text("from b")
    (tmp_path / "a.txt").write_text("from a")
    (tmp_path / "c.jsonl").write_bytes(jsonl(["from c"]))
    (tmp_path / "notes.md").write_text("not read")
    assert read(tmp_path) == ["from a", "from b", "from c"]
    assert read(tmp_path / "**" / "*.txt") == ["from a", "from b"]


def test_a_name_with_glob_characters_is_a_name(tmp_path):
    (tmp_path / "part[1].txt").write_text("hello")
    assert read(tmp_path / "part[1].txt") == ["hello"]


def test_line_ends_byte_order_mark_blank_lines_and_empty_texts(tmp_path):
    lines = [b'{"text": "  one\\r\\ntwo "}', b"", b"  ", b'{"text": " \\n"}', b'{"text": "last"}']
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    assert read(tmp_path) == ["one\ntwo", "last"]


def test_text_field_names_the_column(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(jsonl(["hello"], field="content"))
    pq.write_table(pa.table({"content": ["world"]}), tmp_path / "b.parquet")
    assert read(tmp_path, text_field="content") == ["hello", "world"]


def test_a_short_txt_file_is_one_document_and_a_long_one_is_cut_at_blank_lines(tmp_path):
    paragraphs = [f"Paragraph {number}. " + "word " * 400 for number in range(20)]
    (tmp_path / "long.txt").write_text("\n\n".join(paragraphs))
    found = read(tmp_path / "long.txt")
    assert len(found) > 1
    assert all(len(text) > files.TEXT_DOCUMENT for text in found[:-1])
    assert "\n\n".join(found).split() == " ".join(paragraphs).split()
    assert all(text.startswith("Paragraph") for text in found)
    (tmp_path / "short.txt").write_text("\n\n".join(paragraphs[:2]))
    assert len(read(tmp_path / "short.txt")) == 1


def test_a_huge_document_is_cut_at_line_ends_without_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "DOCUMENT_LIMIT", 50)
    text = "\n".join(f"line {number} of the text" for number in range(20)) + "x" * 120
    (tmp_path / "a.jsonl").write_bytes(jsonl([text]))
    found = read(tmp_path)
    assert all(len(part) <= 50 for part in found)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert found[0].endswith("of the text")


def test_documents_arrive_before_the_source_is_read_to_its_end(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(jsonl(["good"]) + b"bad\n")
    stream = documents(local(tmp_path))
    assert next(stream) == "good"
    with pytest.raises(CorpusError, match="line 2"):
        next(stream)


class Bar:
    total: float | None = None
    unit = ""
    n = 0.0

    def update(self, amount):
        self.n += amount


def test_progress_adds_up_to_the_size_of_the_files(tmp_path, formats):
    for kind, path in formats.items():
        bar = Bar()
        list(documents(local(path), bar))
        assert bar.unit == "B" and bar.total == path.stat().st_size
        assert bar.n == pytest.approx(bar.total), kind
    both = bar.n + formats["jsonl"].stat().st_size
    list(documents(local(formats["jsonl"]), bar))
    assert bar.n == pytest.approx(bar.total) == pytest.approx(both)


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=8))
@settings(max_examples=50, deadline=None)
def test_any_text_survives_a_jsonl_file(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(jsonl([*texts, "end"]))
    clean = [text.replace("\r\n", "\n").replace("\r", "\n").strip() for text in texts]
    assert read(path) == [text for text in clean if text] + ["end"]


def test_undecodable_byte_is_named_by_its_offset(tmp_path):
    content = jsonl(["größe", "fine"]) + b'{"text": "caf\xe9"}\n'
    (tmp_path / "a.jsonl").write_bytes(content)
    message = refused(tmp_path)
    assert f"a.jsonl: line 3: byte {content.index(0xE9)} is not UTF-8 (0xe9)" in message
    assert content[int(re.search(r"byte (\d+)", message)[1])] == 0xE9
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(content))
    assert f"byte {content.index(0xE9)} of the unpacked text is not UTF-8" in refused(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "cut', r"a.jsonl: line 2: not valid JSON \(Unterminated string.*, column 10\)"),
        ('["a list"]', r"a.jsonl: line 2: list found, must be an object with 'text'"),
        ('{"body": "x", "id": 3}', r"a.jsonl: line 2: no field 'text'; .*fields found: body, id$"),
        ("{}", r"a.jsonl: line 2: no field 'text'; .*fields found: none$"),
        ('{"text": null, "id": 3}', r"line 2: field 'text' is NoneType, .*fields found: text, id"),
        ('{"text": ["x"]}', r"a.jsonl: line 2: field 'text' is list, must be text"),
        (r'{"text": "ab\ud800"}', r"line 2: .*half a character \(surrogate 0xd800 at 2\)"),
        ("9" * 5000, r"a.jsonl: line 2: not usable JSON \(.*digits"),
        ("[" * 100_000, r"a.jsonl: line 2: not usable JSON \(.*recursion"),
    ],
)
def test_bad_line_is_named_by_file_and_number(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_bytes(jsonl(["good"]) + line.encode() + b"\n")
    assert re.search(message, refused(tmp_path))


def test_bad_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["x"], "id": [1]}), path)
    assert "a.parquet: no field 'text'; set text_field to one" in refused(path)
    assert refused(path).endswith("found: body, id")
    assert "row 0: field 'id' is int, must be text" in refused(path, text_field="id")
    pq.write_table(pa.table({"text": ["x", None]}), path)
    assert "a.parquet: row 1: field 'text' is NoneType" in refused(path)
    path.write_bytes(path.read_bytes()[:-30])
    assert "a.parquet: after row 0: damaged file" in refused(path)


def test_bad_gzip(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(TEXTS * 50))[:-20])
    assert "a.jsonl.gz: damaged gzip file" in refused(path)
    path.write_bytes(jsonl(TEXTS))
    assert "a.jsonl.gz: damaged gzip file" in refused(path)


def test_no_file_unreadable_kind_and_empty_corpus(tmp_path):
    assert re.search(
        r"missing/\*.jsonl': no file matched .*\.parquet, \.txt",
        refused(tmp_path / "missing" / "*.jsonl"),
    )
    assert "no file matched" in refused(tmp_path)  # an empty folder
    (tmp_path / "a.csv").write_text("text\nhello\n")
    assert "a.csv: a file of this kind cannot be read" in refused(tmp_path / "*")
    (tmp_path / "a.txt").write_text(" \n\n")
    assert re.search(r"no document with text in it; name another source$", refused(tmp_path))


def test_description_changes_with_the_files(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    before = describe(local(tmp_path))
    assert before["files"] == 1 and before["bytes"] == 5
    assert describe(local(tmp_path / "*.txt")) == before
    (tmp_path / "a.txt").write_text("hello!")
    assert describe(local(tmp_path)) != before


# --- installed-docs ------------------------------------------------------------------------------

PROSE = "This function returns the sum of its arguments, and explains itself in one sentence."


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An installed package that must not be imported."""
    root = tmp_path / "site" / "madeup"
    (root / "inner" / "tests").mkdir(parents=True)
    (root / "__init__.py").write_text(f'"""Top. {PROSE}"""\nraise RuntimeError("imported")\n')
    (root / "inner" / "b.py").write_text(f'"""Inner b. {PROSE}"""\n')
    (root / "a.py").write_text(f'def f():\n    """\n    Of a. {PROSE}\n    """\n')
    (root / "broken.py").write_text(f'"""Broken. {PROSE}"""\nprint "python 2"\n')
    (root / "inner" / "tests" / "test_b.py").write_text(f'"""Test. {PROSE}"""\n')
    info = tmp_path / "site" / "Made_Up-1.2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Made-Up\nVersion: 1.2.3+cpu\n")
    (info / "top_level.txt").write_text("madeup\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return root


def installed(*packages: str) -> Corpus:
    return corpus(source="installed-docs", packages=list(packages))


def test_a_package_is_read_file_by_file_and_never_imported(package):
    found = list(documents(installed("madeup")))
    assert found == [f"Top. {PROSE}", f"Of a. {PROSE}", f"Inner b. {PROSE}"]


def test_description_names_versions_without_the_build(package):
    assert describe(installed("madeup")) == {"packages": {"madeup": "1.2.3"}}


def test_a_one_file_module_is_a_package_too(package):
    (package.parent / "single.py").write_text(f'"""Single. {PROSE}"""\n')
    assert list(documents(installed("single"))) == [f"Single. {PROSE}"]


@pytest.mark.parametrize("name", ["no_such_package", "madeup.inner", "made-up", "../madeup"])
def test_a_package_that_is_not_installed_is_named(package, name):
    with pytest.raises(CorpusError, match=f"packages: '{name}' is not an installed .*environment"):
        list(documents(installed("madeup", name)))
    with pytest.raises(CorpusError, match="not an installed"):
        describe(installed(name))


def test_every_kind_of_documentation_string_is_found_in_order():
    source = '''
"""module"""
x = 1
"""not documentation: follows no definition"""
@auto_docstring(custom_intro="""
decorator
""")
class C:
    """class"""
    @property
    def m(self):
        """method"""
        def inner():
            """inner code is not entered"""
try:
    def g(): """in try"""
except ImportError:
    async def g(): """in except"""
add_docstr(C.x, r"""
plain
""")
y = _add_docstr(C.y, """
sum {a}
""" + """more
""".format(a=1))
add_newdoc("m", "f", ("name", """
tuple
"""))
add_newdoc("m", "one line is a name or a title")
other("""
no documentation
""")
'''
    found = [text.strip() for text in docstrings(source.encode())]
    assert found == [
        "module", "decorator", "class", "method", "in try", "in except", "plain",
        "sum {a}\nmore", "tuple",
    ]  # fmt: skip


def test_files_that_are_no_python_have_no_documentation():
    assert list(docstrings(b'"""x"""\nprint "old"')) == []
    assert list(docstrings(b'"""x\x00"""')) == []
    assert list(docstrings(b"# -*- coding: latin-1 -*-\n'''caf\xe9'''")) == ["café"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"{PROSE}\n\n    >>> add(1, 2)\n    3\n\n    After it.", f"{PROSE}\n\nAfter it."),
        (f"{PROSE}\n```python\nadd(1)\n```\nAfter it.", f"{PROSE}\nAfter it."),
        (f"{PROSE}\n\n.. code-block:: c\n\n   add();\n\nAfter it.", f"{PROSE}\n\nAfter it."),
        (f"{PROSE}\n\nUse it so::\n\n    add(1)\n\nAfter.", f"{PROSE}\n\nUse it so:\nAfter."),
        (f"{PROSE}\n\nReturns\n-------\nx : int", f"{PROSE}\n\nReturns\nx : int"),
        (f"{PROSE}\n\nExamples\n--------\n>>> add(1)\n3", PROSE),
        (f"{PROSE}\n1.0  2.0  3.5\n0 1 1 0\n|+---+|\n", PROSE),
        (f"{PROSE}\n.. math::\n\n    x^2 + y^2 = 1", f"{PROSE}\n\n    x^2 + y^2 = 1"),
        (f"{PROSE}\n    {{input}}\n    %(params)s\n", PROSE),
        (f"{PROSE} See :func:`~torch.add`, :py:class:`C <a.C>`.", f"{PROSE} See torch.add, C."),
        ("Too short to say anything.", None),
        (f"{PROSE}\n\nLicensed under the Apache License, Version 2.0", None),
        (f"Copyright (c) 2020 Somebody.\n{PROSE}", None),
        ("a=1; b=2; c=[3]; " * 30, None),
        ("", None),
    ],
)
def test_what_cleaning_keeps(text, kept):
    assert clean_docstring(text) == kept


def test_generated_variants_of_a_document_are_left_out(package):
    lines = [f"Line {number} of a long description, alike in every model." for number in range(9)]
    variants = ["\n".join([f"The {name} model is this.", *lines]) for name in ("first", "second")]
    (package / "a.py").write_text("\n".join(f'def f():\n    """{text}"""' for text in variants))
    found = list(documents(installed("madeup")))
    assert variants[0] in found and variants[1] not in found


def test_a_real_package_gives_prose_and_always_the_same():
    first = list(documents(installed("tqdm")))
    assert len(first) > 20
    assert not any(">>>" in text for text in first)
    assert first == list(documents(installed("tqdm")))


# --- hub -----------------------------------------------------------------------------------------


@pytest.fixture
def hub_folder(tmp_path, monkeypatch) -> Path:
    """A local dataset folder as the hub serves it; the hub itself cannot be reached."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(jsonl(TEXTS))
    return folder


def hub(folder, **keys) -> Corpus:
    return corpus(source="hub", id=str(folder), **keys)


def test_a_local_folder_is_streamed_as_a_hub_dataset(hub_folder):
    bar = Bar()
    assert list(documents(hub(hub_folder), bar)) == TEXTS
    assert bar.unit == "B" and bar.n == bar.total == len(jsonl(TEXTS))
    before = describe(hub(hub_folder))
    (hub_folder / "train.jsonl").write_bytes(jsonl(TEXTS * 2))
    assert describe(hub(hub_folder)) != before


def test_hub_faults_are_one_line(hub_folder):
    def message(**keys) -> str:
        with pytest.raises(CorpusError) as caught:
            list(documents(hub(**{"folder": hub_folder, **keys})))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert re.search(r"train.jsonl: line 1: no field 'body'", message(text_field="body"))
    assert re.search(r"split 'dev'.*train", message(split="dev"))
    assert re.search(r"subset 'en'", message(subset="en"))
    assert re.search(
        r"somebody/nothing: split 'train'.*local folder", message(folder="somebody/nothing")
    )
    (hub_folder / "train.jsonl").write_bytes(jsonl(TEXTS) + b"{bad\n")
    assert "train.jsonl: line 5: not valid JSON" in message()


# --- real text -----------------------------------------------------------------------------------


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="shared/data/corpora is not beside the project")
@pytest.mark.parametrize(("name", "count"), [("general", 2542), ("math", 603)])
def test_the_real_samples(name, count):
    with gzip.open(SAMPLES / f"{name}.jsonl.gz", "rt", encoding="utf-8", newline="\n") as lines:
        expected = [json.loads(line)["text"] for line in lines]
    found = read(SAMPLES / f"{name}.jsonl.gz")
    assert len(found) == count
    assert [" ".join(text.split()) for text in found] == [" ".join(t.split()) for t in expected]
