"""Corpora: where the text comes from, as a stream of documents.

``documents(corpus)`` reads one of three sources and yields cleaned texts, one a document:
``installed-docs`` (documentation strings of installed packages, read from their source files),
``local`` (.jsonl, .jsonl.gz, .parquet, .txt) and ``hub`` (``tad.data.hub``). Nothing is held in
memory but the document at hand, so a source may be of any size; one line of a text file, or one
row group of a parquet file, must fit. ``parts(corpus)`` gives the same piece by piece.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import inspect
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tad.data.files import DOCUMENT_LIMIT, SILENT, CorpusError, matched_files, texts
from tad.experiment.schema import Corpus


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of a source that is read at one go: a file, a shard of the hub, all packages.

    ``name`` tells it from all others, and from itself before a change; ``source`` is what it is a
    part of. ``documents`` gives its cleaned documents, and may put files into the folder given.
    ``facts`` identify its content, for manifests: complete when all documents are read, and empty
    where the source as a whole is described.
    """

    name: str
    source: str
    documents: Callable[[Path], Iterator[str]]
    facts: dict[str, Any] = field(default_factory=dict)


def documents(corpus: Corpus, bar: tqdm = SILENT) -> Iterator[str]:
    """The documents of a corpus, cleaned, in an order that depends on the source alone.

    Cleaned means: no outer white space, ``\\n`` line ends, never empty, valid Unicode, at most
    DOCUMENT_LIMIT characters. ``bar`` is told how much there is, if known, and how much is read.
    Raises CorpusError while iterating: at the first fault of the source, or at its end if it held
    no document at all.
    """
    empty = True
    with tempfile.TemporaryDirectory(prefix="tad-") as folder:
        for part in parts(corpus, bar):
            for document in part.documents(Path(folder)):
                empty = False
                yield document
    if empty:
        raise no_text(source(corpus))


def source(corpus: Corpus) -> str:
    """Where the text is, in messages."""
    return corpus.path or corpus.id or f"packages {', '.join(corpus.packages)}"


def no_text(source: str) -> CorpusError:
    """What is said of a source without a document."""
    return CorpusError(f"{source}: no document with text in it; name another source")


def parts(corpus: Corpus, bar: tqdm = SILENT, *, listing: Path | None = None) -> list[Part]:
    """The pieces of a corpus, in the order in which they are read.

    Those of a hub set come in an order of its seed, so that the first of them are a sample; the
    file ``listing`` keeps them as they are found, for the next call. Raises CorpusError.
    """
    if corpus.source == "installed-docs":

        def read(folder: Path) -> Iterator[str]:
            return clean(_installed(corpus, bar))

        return [Part(name=corpus.source, source=source(corpus), documents=read)]
    if corpus.source == "local":
        return _local(corpus, bar)
    from tad.data import hub

    return hub.parts(corpus, bar, listing)


def clean(found: Iterable[str]) -> Iterator[str]:
    """The documents of texts, as ``documents`` describes them."""
    for text in found:
        yield from _cut(text.replace("\r\n", "\n").replace("\r", "\n").strip())


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


def expect(bar: tqdm, total: float) -> None:
    """``total`` bytes more to come, after what other corpora have brought the bar to."""
    bar.total, bar.unit = max(bar.total or 0, bar.n) + total, "B"


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
    expect(bar, sum(path.stat().st_size for path in files))
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


def _local(corpus: Corpus, bar: tqdm) -> list[Part]:
    files = [(path, path.stat()) for path in matched_files(corpus.path or "")]
    expect(bar, sum(state.st_size for _, state in files))

    def part(path: Path, state: os.stat_result) -> Part:
        def read(folder: Path) -> Iterator[str]:
            return clean(texts(path, corpus.text_field, bar))

        name = f"{path} {state.st_size} {state.st_mtime_ns}"
        return Part(name=name, source=source(corpus), documents=read)

    return [part(*file) for file in files]
