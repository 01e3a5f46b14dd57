"""Corpora: where the text comes from, as a stream of documents.

``documents(corpus)`` reads one of three sources and yields cleaned texts, one a document:
``installed-docs`` (documentation strings of installed packages, read from their source files),
``local`` (.jsonl, .jsonl.gz, .parquet, .txt) and ``hub`` (streaming ``datasets``). Nothing is held
in memory but the document at hand, so a source may be of any size; one line of a text file, or one
row group of a parquet file, must fit.
"""

from __future__ import annotations

import ast
import codecs
import contextlib
import gc
import glob
import gzip
import hashlib
import inspect
import json
import os
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tad.command import UserError, optional
from tad.experiment.schema import Corpus

DOCUMENT_LIMIT = 1_000_000
"""Characters; a longer document is cut at line ends into documents of its own (bounds memory)."""

TEXT_DOCUMENT = 10_000
"""Characters after which a .txt file's next blank line ends a document (books become chapters)."""

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".txt")


class CorpusError(UserError, ValueError):
    """A source that cannot be read; one line with the file, line or byte, key and cure."""


SILENT = tqdm(disable=True)
"""A progress bar that is not shown; the others count bytes read, or documents of a hub source."""


def documents(corpus: Corpus, bar: tqdm = SILENT) -> Iterator[str]:
    """The documents of a corpus, cleaned, in an order that depends on the source alone.

    Cleaned means: no outer white space, ``\\n`` line ends, never empty, valid Unicode, at most
    DOCUMENT_LIMIT characters. ``bar`` is told how much there is, if known, and how much is read.
    Raises CorpusError while iterating: at the first fault of the source, or at its end if it held
    no document at all.
    """
    source = {"installed-docs": _installed, "local": _local, "hub": _hub}[corpus.source]
    empty = True
    for text in source(corpus, bar):
        for document in _cut(text.replace("\r\n", "\n").replace("\r", "\n").strip()):
            empty = False
            yield document
    if empty:
        where = corpus.path or corpus.id or f"packages {', '.join(corpus.packages)}"
        raise CorpusError(f"{where}: no document with text in it; name another source")


def describe(corpus: Corpus) -> dict[str, Any]:
    """What identifies the state of a source beyond its configuration, for manifests.

    Versions of the packages (without a build's local part, as in 2.13.0+cpu, which does not change
    the documentation), or number, size and names of the files. Raises CorpusError as ``documents``.
    """
    if corpus.source == "installed-docs":
        for package in corpus.packages:
            _package_root(package)
        owners = metadata.packages_distributions()
        versions = {}
        for package in corpus.packages:
            names = sorted(set(owners.get(package, [])))
            versions[package] = ", ".join(metadata.version(n).partition("+")[0] for n in names)
        return {"packages": versions}
    if corpus.source == "local":
        return _listing(matched_files(corpus.path or ""))
    folder = Path(corpus.id or "")
    if folder.is_dir():
        return _listing(sorted(p for p in folder.rglob("*") if p.is_file()))
    return {}


def _listing(files: list[Path]) -> dict[str, Any]:
    """Independent of the folder that holds them all."""
    start = os.path.commonpath([path.parent for path in files])
    sizes = [(path.relative_to(start).as_posix(), path.stat().st_size) for path in files]
    digest = hashlib.sha256(json.dumps(sizes).encode()).hexdigest()
    return {"files": len(sizes), "bytes": sum(size for _, size in sizes), "listing": digest}


def _cut(text: str) -> Iterator[str]:
    while len(text) > DOCUMENT_LIMIT:
        end = text.rfind("\n", 0, DOCUMENT_LIMIT) + 1 or DOCUMENT_LIMIT
        if head := text[:end].strip():
            yield head
        text = text[end:].strip()
    if text:
        yield text


def _expect(bar: tqdm, total: float | None, unit: str = "B") -> None:
    """``total`` more to come, after what other corpora have brought the bar to."""
    bar.total, bar.unit = None if total is None else bar.n + total, unit


# --- installed-docs ------------------------------------------------------------------------------

_SKIPPED_FOLDERS = {
    "tests", "test", "testing",  # test code
    "_vendor", "vendored", "externals", "third_party",  # copies of other packages
}  # fmt: skip
_MIN_WORDS = 10  # shorter strings ("Test the function.") say too little to be a document
_MIN_LETTERS = 0.6  # of the characters that are no space; below lie code, tables, drawings
_REPEATED = 0.75  # share of a document's long lines, by length, that makes it boilerplate
_LONG_LINE = 30

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_LICENCE = re.compile(
    r"licen[sc]ed under|copyright (?:\(c\)|©|\d{4})|permission is hereby granted"
    r"|redistribution and use in|all rights reserved",
    re.IGNORECASE,
)
_ROLE = re.compile(r":(?:[a-zA-Z]+:)+`[~!]?([^`<]+?)(?:\s*<[^`>]*>)?`")  # :func:`~a.b` -> a.b
_PLACEHOLDER = re.compile(r"\W*(?:%\(\w+\)s|\{\w*\}|<<\w+>>|\$\{?\w+\}?)\W*")  # {input}
_CODE_DIRECTIVE = re.compile(
    r"\.\. (?:code|code-block|sourcecode|plot|ipython|doctest|test\w+|index|image|figure|toctree"
    r"|currentmodule|auto\w+)\b"
)
_BARE_HEADING = re.compile(r"(?:examples?:*|\.\. [\w-]+::)", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]{2,}")


def _installed(corpus: Corpus, bar: tqdm) -> Iterator[str]:
    """Documentation strings of the packages, in the order of packages, files, lines.

    Generated code repeats itself: a document most of whose long lines have already been seen is
    left out, so that a validation document is not a training document with one name changed.
    """
    roots = [_package_root(package) for package in corpus.packages]
    files = [path for root in roots for path in _python_files(root)]
    _expect(bar, sum(path.stat().st_size for path in files))
    seen: set[str] = set()
    for path in files:
        for text in docstrings(path.read_bytes()):
            document = clean_docstring(text)
            if document and not _boilerplate(document, seen):
                yield document
        bar.update(path.stat().st_size)


def _package_root(package: str) -> Path:
    """Folder of a package, or file of a one-file module, found without importing it."""
    spec = PathFinder.find_spec(package) if package.isidentifier() else None
    if spec is None:
        raise CorpusError(
            f"packages: {package!r} is not an installed package (import name): install the locked "
            "environment, or take it out of the corpus's packages"
        )
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin or "")


def _python_files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    found = (path.relative_to(root) for path in root.rglob("*.py"))
    kept = [path for path in found if not _SKIPPED_FOLDERS & set(path.parts)]
    return [root / path for path in sorted(kept, key=Path.as_posix)]


def docstrings(source: bytes) -> Iterator[str]:
    """The documentation strings of a Python file, in order of lines; none if it does not parse.

    Those of the module, its classes, functions and methods, and the multi-line strings handed to a
    function with "doc" in its name (``add_docstr``, ``add_newdoc``, ``auto_docstring``), by which
    compiled or generated functions are documented.
    """
    if b'"""' not in source and b"'''" not in source:
        return  # parsing is what takes the time
    try:
        tree = _parse(source)
    except (SyntaxError, ValueError):
        return  # templates and examples in older syntax, not modules
    yield from _walk(tree)


def _parse(source: bytes) -> ast.Module:
    """``ast.parse`` without warnings (invalid escapes in other people's code), and a third faster
    without the garbage collector, which goes over the growing tree again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    finally:
        if collecting:
            gc.enable()


def _walk(node: ast.AST) -> Iterator[str]:
    """Strings at and below a statement; bodies of functions hold code, and are not entered."""
    if isinstance(node, _DOCUMENTED):
        if not isinstance(node, ast.Module):
            for decorator in node.decorator_list:
                yield from _handed_over(decorator)
        if (text := ast.get_docstring(node, clean=False)) is not None:
            yield text
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
    for block in ("body", "handlers", "orelse", "finalbody"):
        for child in getattr(node, block, ()):
            if isinstance(child, ast.Expr | ast.Assign):
                yield from _handed_over(child.value)
            else:
                yield from _walk(child)


def _handed_over(node: ast.expr) -> Iterator[str]:
    """The multi-line strings among the arguments of a call that documents something."""
    if not isinstance(node, ast.Call):
        return
    name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
    if "doc" not in name.lower():
        return
    for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
        text = _literal(argument)
        if "\n" in text:
            yield text


def _literal(node: ast.expr) -> str:
    """The literal text of an expression: a string, ``a + b``, ``a % b``, ``a.format(...)``, or the
    last string of a tuple (numpy's ``("method", "its text")``); what is filled in stays out."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.BinOp):
        return _literal(node.left) + (_literal(node.right) if isinstance(node.op, ast.Add) else "")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return _literal(node.func.value)
    if isinstance(node, ast.Tuple):
        return next(filter(None, map(_literal, reversed(node.elts))), "")
    return ""


def clean_docstring(text: str) -> str | None:
    """The prose of a documentation string, or None where too little of it is prose.

    Out go licences, code (fenced, doctest, literal blocks), underlines and drawings, rows of
    numbers and unfilled placeholders; reStructuredText roles become their text. Formulas stay.
    """
    if _LICENCE.search(text):
        return None
    text = "\n".join(_prose_lines(inspect.cleandoc(text)))
    text = re.sub(r"\n{3,}", "\n\n", _ROLE.sub(r"\1", text)).strip()
    words = _WORD.findall(text)
    solid = len("".join(text.split()))
    if len(words) < _MIN_WORDS or sum(map(len, words)) < _MIN_LETTERS * solid:
        return None
    return text


def _prose_lines(text: str) -> Iterator[str]:
    fenced = doctest = False
    block: int | None = None  # indentation of the line that opened a literal block
    for line in text.split("\n"):
        content = line.strip()
        indent = len(line) - len(line.lstrip())
        if content.startswith(("```", "~~~")):
            fenced = not fenced
            continue
        doctest = content.startswith(">>>") or (doctest and content != "")
        if fenced or doctest:
            continue
        if block is not None:
            if not content or indent > block:
                continue
            block = None
        if _CODE_DIRECTIVE.match(content):
            block = indent
            continue
        if content.endswith("::") and not content.startswith(".."):
            block = indent
            line = line.rstrip()[:-1]
        if not content or _is_prose(content):
            yield line.rstrip()


def _is_prose(line: str) -> bool:
    if _BARE_HEADING.fullmatch(line) or _PLACEHOLDER.fullmatch(line):
        return False
    letters = sum(map(str.isalpha, line))
    digits = sum(map(str.isdigit, line)) if letters * 2 < len(line) else 0
    return letters + digits > 0 and digits * 2 <= len("".join(line.split()))


def _boilerplate(document: str, seen: set[str]) -> bool:
    """Whether most of a document's long lines are in ``seen``; adds them to it."""
    lines = [line.strip() for line in document.split("\n")]
    lines = [line for line in lines if len(line) >= _LONG_LINE]
    repeated = sum(len(line) for line in lines if line in seen)
    seen.update(lines)
    return repeated > _REPEATED * sum(map(len, lines))


# --- local ---------------------------------------------------------------------------------------


def _local(corpus: Corpus, bar: tqdm) -> Iterator[str]:
    files = matched_files(corpus.path or "")
    _expect(bar, sum(path.stat().st_size for path in files))
    for path in files:
        if path.suffix == ".parquet":
            yield from _parquet(path, corpus.text_field, bar)
        elif path.suffix == ".txt":
            yield from text_documents(path, bar)
        else:
            rows = json_rows(path, bar)
            yield from (_text(row, corpus.text_field, where) for where, row in rows)


def matched_files(pattern: str) -> list[Path]:
    """The files of a folder (those with one of SUFFIXES), a file, or a glob; in order of names.

    Raises CorpusError where there is none, or one of another kind.
    """
    path = Path(pattern)
    if path.is_dir():
        found: Iterable[Path] = (p for p in path.rglob("*") if p.name.endswith(SUFFIXES))
    else:
        found = [path] if path.is_file() else map(Path, glob.glob(pattern, recursive=True))
    files = sorted((p for p in found if p.is_file()), key=Path.as_posix)
    if not files:
        raise CorpusError(
            f"path: {pattern!r}: no file matched (wanted {', '.join(SUFFIXES)}); relative paths "
            f"start at {Path.cwd()}"
        )
    for file in files:
        if not file.name.endswith(SUFFIXES):
            raise CorpusError(
                f"{file}: a file of this kind cannot be read (allowed: {', '.join(SUFFIXES)}); "
                "narrow the glob in path"
            )
    return files


def _lines(path: Path, bar: tqdm) -> Iterator[tuple[int, str]]:
    """Numbered lines, ended by ``\\n`` alone (texts hold other line separators)."""
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        stream = stack.enter_context(gzip.open(raw)) if path.suffix == ".gz" else raw
        offset = read = 0
        try:
            for number, line in enumerate(stream, 1):
                mark = len(codecs.BOM_UTF8) if offset == 0 and line[:3] == codecs.BOM_UTF8 else 0
                try:
                    text = line[mark:].decode("utf-8")
                except UnicodeDecodeError as error:
                    byte = offset + mark + error.start
                    unpacked = " of the unpacked text" if path.suffix == ".gz" else ""
                    raise CorpusError(
                        f"{path}: line {number}: byte {byte}{unpacked} is not UTF-8 "
                        f"({error.object[error.start]:#04x}); convert the file to UTF-8"
                    ) from None
                yield number, text
                offset += len(line)
                bar.update(raw.tell() - read)  # of the packed file, as its size is
                read = raw.tell()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise CorpusError(f"{path}: damaged gzip file ({error}); copy it again") from None


def json_rows(path: Path, bar: tqdm = SILENT) -> Iterator[tuple[str, Any]]:
    """(file and line, value) of a .jsonl or .jsonl.gz file. Raises CorpusError."""
    for number, line in _lines(path, bar):
        line = line.strip()
        if not line:
            continue
        where = f"{path}: line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            reason = f"{error.msg}, column {error.colno}"
            raise CorpusError(f"{where}: not valid JSON ({reason}); mend or drop it") from None
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where}: not usable JSON ({error}); mend or drop it") from None
        yield where, row


def _text(row: Any, field: str, where: str) -> str:
    """The text of a record. Raises CorpusError for a missing field or one that holds no text."""
    if not isinstance(row, dict):
        raise CorpusError(f"{where}: {type(row).__name__} found, must be an object with {field!r}")
    if field not in row:
        raise CorpusError(_no_field(where, field, row))
    text = row[field]
    if not isinstance(text, str):
        raise CorpusError(
            f"{where}: field {field!r} is {type(text).__name__}, must be text; mend it, or set "
            f"text_field (fields found: {', '.join(row)})"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{where}: field {field!r} holds half a character (surrogate "
            f"{ord(text[error.start]):#06x} at {error.start}); mend or drop it"
        ) from None
    return text


def _no_field(where: str, field: str, names: Iterable[str]) -> str:
    found = ", ".join(map(str, names)) or "none"
    return f"{where}: no field {field!r}; set text_field to one of the fields found: {found}"


def _parquet(path: Path, field: str, bar: tqdm) -> Iterator[str]:
    pyarrow, parquet = optional("pyarrow"), optional("pyarrow.parquet")
    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if field not in names:
                raise CorpusError(_no_field(str(path), field, names))
            share = path.stat().st_size / max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(batch_size=1024, columns=[field]):
                for text in batch.column(0).to_pylist():
                    yield _text({field: text}, field, f"{path}: row {row}")
                    row += 1
                bar.update(share * len(batch))
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"{path}: after row {row}: damaged file ({reason})") from None


def text_documents(path: Path, bar: tqdm = SILENT) -> Iterator[str]:
    """The documents of a .txt file: it is cut at blank lines, every TEXT_DOCUMENT characters."""
    lines: list[str] = []
    size = 0
    for _, line in _lines(path, bar):
        lines.append(line)
        size += len(line)
        if size >= (TEXT_DOCUMENT if line.isspace() else DOCUMENT_LIMIT):
            yield "".join(lines)
            lines, size = [], 0
    yield "".join(lines)


# --- hub -----------------------------------------------------------------------------------------


def _hub(corpus: Corpus, bar: tqdm) -> Iterator[str]:
    for where, row in hub_rows(corpus.id or "", corpus.subset, corpus.split, bar):
        yield _text(row, corpus.text_field, where)
        bar.update(1)


def hub_rows(
    id: str, subset: str | None, split: str, bar: tqdm = SILENT
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of a dataset as they arrive. Code that comes with a dataset is never run.

    Raises CorpusError.
    """
    datasets = optional("datasets")
    datasets.disable_progress_bars()
    number = 0
    try:
        stream = datasets.load_dataset(id, subset, split=split, streaming=True)
        known = (stream.info.splits or {}).get(split)
        _expect(bar, known.num_examples if known else None, " documents")
        for number, row in enumerate(stream):
            yield f"{id}: {split} row {number}", row
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise CorpusError(
            f"{id}: split {split!r}, subset {subset!r}, at row {number}: "
            f"{type(error).__name__}: {reason}; check id, subset and split, or give the id of a "
            "local folder where there is no network"
        ) from None
