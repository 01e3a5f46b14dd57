"""All that a scale draws, of invented records: as a page, in a browser, and in a paper."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pandas as pd
import pytest

from analysis.claims import judge
from analysis.figures import draw as figures
from analysis.report.findings import FIRST, FindingsError, main, shown, write
from analysis.tables import draw as tables
from tad.command import PROJECT
from tad.experiment.config import load_suite
from workflow.items import FINDINGS, TARGETS, drawn

from ..conftest import CONFIG
from ..whole import fill

SCALE, WIDTH = "mini", 1280
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
PUBLISHED = sorted((PROJECT / "results").glob("*/findings.html"))
PDFLATEX = shutil.which("pdflatex")


@pytest.fixture(scope="module")
def suite():
    return load_suite(CONFIG / f"{SCALE}.yaml")


@pytest.fixture(scope="module")
def root(suite, tmp_path_factory):
    """Everything drawn."""
    root = fill(tmp_path_factory.mktemp("work") / SCALE, suite)
    for _, each in drawn(suite):
        kind, *name = each.command.split()
        commands = {"tables": tables.write, "figures": figures.draw, "claims": judge.write}
        {**commands, "report": write}[kind](*name, suite, root)
    return root


@pytest.fixture(scope="module")
def page(root):
    return (root / FINDINGS.files[0]).read_text()


def test_every_declared_file_is_drawn(suite, root):
    declared = {file for _, each in drawn(suite) for file in each.outputs(suite)}
    folders = ("tables", "figures")
    found = {f"{f}/{p.name}" for f in folders for p in (root / f).iterdir()}
    assert declared == {*found, "findings.html"}


def test_labels_of_the_report_are_unique():
    labels = [text for t in TARGETS.values() for d in t.draws for text, _ in d.shown.values()]
    assert len(set(labels)) == len(labels)


def test_fonts_are_truetype(root):
    for path in (root / "figures").glob("*.pdf"):
        content = path.read_bytes()
        assert b"/Type3" not in content and b"/FontFile2" in content, path.name


def test_the_page_opens_on_verdicts_and_holds_all(suite, root, page):
    claims = pd.read_csv(root / "tables" / "claims.csv")
    primary = claims[claims["family"] == "primary"]["verdict"].value_counts()
    row = re.search(r'<td class="word">primary</td>(.*?)</tr>', page)[1]
    assert [int(x) for x in re.findall(r"<td>(\d+)</td>", row)] == [
        primary[name] for name in judge.VERDICTS if name in primary
    ]
    order = re.findall(r'<section id="([^"]+)"', page)
    assert order[: 1 + len(FIRST)] == ["verdicts", *(f"figure-{name}" for name in FIRST)]
    anchors = [entry.anchor for entry in shown(suite, root)]
    assert sorted(order[1:]) == sorted(anchors)
    assert set(re.findall(r'href="#([^"]+)"', page)) == set(anchors)
    assert "<script" not in page and 'href="report.html"' in page
    assert not re.search(r'(src|href)="https?:', page)


def test_links_lead_to_files(root, page):
    links = set(re.findall(r'href="([^#"]+)"', page)) - {"report.html"}
    assert len(links) > 50 and all((root / html.unescape(link)).is_file() for link in links)


def test_what_is_not_drawn_is_named(suite, root, tmp_path, capsys):
    copy = tmp_path / SCALE
    shutil.copytree(root, copy)
    (copy / "figures" / "lead.png").unlink()
    with pytest.raises(FindingsError, match=r"figures/lead\.png: not drawn yet"):
        write(suite, copy)
    assert main(["--root", str(copy), "--config", str(CONFIG / f"{SCALE}.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


PROBE = """<script>addEventListener("load", () => {
  const right = e => e.getBoundingClientRect().right;
  const name = e => `${e.tagName} ${e.id || e.closest("[id]")?.id}`;
  const found = {
    wide: [...document.querySelectorAll("body, body *")]
      .filter(e => !e.closest(".box table") && right(e) > innerWidth + 1).map(name),
    page: document.documentElement.scrollWidth, screen: innerWidth,
    pictures: [...document.images].filter(i => i.naturalWidth < 300).map(name),
    lost: [...document.querySelectorAll('a[href^="#"]')].map(a => a.hash.slice(1))
      .filter(id => !document.getElementById(decodeURIComponent(id))?.offsetHeight),
    tables: document.querySelectorAll(".box table").length,
    narrow: [...document.querySelectorAll("td.long")]
      .filter(e => e.getBoundingClientRect().width < (e.closest(".dense") ? 80 : 150)).map(name),
    scrolls: [...document.querySelectorAll(".box")]
      .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.scrollWidth - e.clientWidth),
  };
  document.body.dataset.found = JSON.stringify(found);
})</script>"""


@pytest.mark.skipif(not CHROMIUM, reason="no chromium here (Debian's package chromium)")
@pytest.mark.parametrize(
    "name",
    [
        "findings.html",
        "tables/claims.html",
        "tables/controls.html",
        "tables/audit.html",
        *PUBLISHED,
    ],
)
def test_in_a_browser_nothing_is_wider_than_the_screen(root, tmp_path, name):
    probed = tmp_path / "probed.html"
    found = (root / name).read_text()
    probed.write_text(f'<base href="{(root / name).parent.as_uri()}/">{found}{PROBE}')
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu",
               "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}",
               f"--window-size={WIDTH},2000",
               "--virtual-time-budget=5000", "--dump-dom", probed.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr
    found = json.loads(html.unescape(re.search(r'data-found="([^"]*)"', done.stdout)[1]))
    assert found["screen"] == WIDTH and found["page"] <= WIDTH, found
    assert not found["wide"] and not found["lost"] and not found["pictures"], found
    assert found["tables"] and not found["narrow"] and not found["scrolls"], found


@pytest.mark.skipif(not PDFLATEX, reason="no pdflatex here (Debian's texlive-latex-recommended)")
def test_tables_compile_in_a_paper_of_two_columns(root, tmp_path):
    files = sorted((root / "tables").glob("*.tex"))
    inputs = [rf"\typeout{{FILE {path.name}}}\input{{{path}}}\clearpage" for path in files]
    (tmp_path / "paper.tex").write_text(
        "\\documentclass[twocolumn]{article}\n\\usepackage[utf8]{inputenc}\n"
        "\\usepackage{booktabs,array}\n\\begin{document}\n" + "\n".join(inputs)
        + "\n\\end{document}\n"
    )  # fmt: skip
    command = [PDFLATEX, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    for _ in range(2):  # the second knows the labels
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
        log = done.stdout.decode(errors="replace")
        assert done.returncode == 0, log[-2000:]
    for part in log.split("FILE ")[1:]:
        name = part.partition(".tex")[0]
        too_wide = [float(x) for x in re.findall(r"Overfull \\hbox \(([\d.]+)pt", part)]
        assert max(too_wide, default=0.0) <= 2.0, f"{name}: {too_wide}"
        assert "Float too large" not in part, name
    assert "multiply" not in log and "undefined" not in log
    for path in files:
        text = path.read_text()
        assert rf"\label{{tab:{path.stem}}}" in text and r"\resizebox" not in text
        assert not re.search(r"\\caption\{Table \d", text), path.name
