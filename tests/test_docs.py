"""The documentation: nothing of the code is missing from it, what is made from the code is fresh, its plugins run."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path

import pytest
from making import __main__ as making
from making import check_pages, command_pages, hook_pages, tables
from making.blocks import BLOCK, filled, table
from making.formulas import with_mathml
from skillneurons.arguments import build_parser
from skillneurons.cli import main
from skillneurons.leaderboard.site.column_help import HELP
from skillneurons.registry import HOOKS, load_registry
from skillneurons.testing import check_plugin, known_checks

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
PLUGINS = [
    (page, found[1], fence["code"])
    for page, text in PAGES.items()
    for fence in FENCE.finditer(text)
    if (found := re.fullmatch(r'python title="([^/]+\.py)"', fence["info"].strip()))
]


# Nothing is missing


def hooks_without_page(hooks: Iterable[str], pages: Mapping[str, str]) -> list[str]:
    """Return the hooks without a page that has the signature and a plugin which implements them."""
    missing = []
    for name in hooks:
        text = pages.get(f"hooks/{name}.md", "")
        codes = [fence["code"] for fence in FENCE.finditer(text)]
        if not any(code.startswith(f"def {name}(") for code in codes):
            missing.append(f"{name}: no page with its signature")
        if not any(f"hookimpl\ndef {name}(" in code for code in codes):
            missing.append(f"{name}: no plugin on its page")
    return missing


def options_without_place(parsers: Mapping[str, argparse.ArgumentParser], pages: Mapping[str, str]) -> list[str]:
    """Return the options and arguments that have no row on the page of their command."""
    missing = []
    for name, parser in parsers.items():
        rows = [line for line in pages.get(f"commands/{name}.md", "").splitlines() if line.startswith("| `")]
        heads = [words for row in rows for words in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
        known = {head.split()[0] for head in heads}
        for action in command_pages.options(parser):
            wanted = action.option_strings or [str(action.metavar or action.dest.upper())]
            missing += [f"{name} {one}" for one in wanted if one not in known]
        if not rows:
            missing.append(f"{name}: no page")
    return missing


def without_row(names: Iterable[str], text: str) -> list[str]:
    """Return the names that no row of a table on a page begins with."""
    rows = set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))
    return [name for name in names if name not in rows]


def test_every_hook_has_a_page_with_a_plugin() -> None:
    assert set(hook_pages.hooks()) == set(HOOKS)
    assert hooks_without_page(HOOKS, PAGES) == []


def test_that_a_hook_without_page_would_be_seen() -> None:
    bare = {"hooks/made_up.md": "# made_up\n\n```python\ndef made_up(register): ...\n```\n"}
    assert hooks_without_page(["made_up"], bare) == ["made_up: no plugin on its page"]
    assert hooks_without_page(["made_up"], PAGES) == [
        "made_up: no page with its signature",
        "made_up: no plugin on its page",
    ]


def test_every_command_and_option_has_its_place() -> None:
    assert options_without_place(command_pages.commands(), PAGES) == []


def test_that_an_option_without_place_would_be_seen() -> None:
    parsers = command_pages.commands()
    parsers["run"].add_argument("--made-up", "-z", help="nothing")
    parsers["run"].add_argument("made", metavar="MADE")
    inner = parsers["validate"].add_subparsers().add_parser("inner")
    inner.add_argument("--deep")
    assert options_without_place(parsers, PAGES) == ["run --made-up", "run -z", "run MADE", "validate --deep"]
    assert options_without_place({"fly": argparse.ArgumentParser()}, PAGES) == ["fly: no page"]


def test_every_setting_has_its_place() -> None:
    assert without_row(tables.setting_names(), PAGES["settings.md"]) == []
    assert {"prompt.steps", "causal.enabled", "models"} <= set(tables.setting_names())


def test_every_column_of_the_board_has_its_place() -> None:
    assert without_row(tables.column_names(), PAGES["reading.md"]) == []
    assert set(tables.column_names()) == set(HELP)


def test_every_statistic_metric_task_and_grader_has_its_place() -> None:
    built_in = tables.built_in()
    for names, page in (
        (built_in.attributions, "method.md"),
        (built_in.metrics, "writing/metric.md"),
        (built_in.tasks, "settings.md"),
        (built_in.graders, "writing/grader.md"),
    ):
        assert without_row(names, PAGES[page]) == [], page


def test_every_check_of_the_contract_has_its_place() -> None:
    rows = sorted(re.findall(r"^\| `([^`]+)`", PAGES["writing/contract.md"], re.MULTILINE))
    assert rows == sorted(one.name for one in known_checks())
    for hook, kind in check_pages.KIND_OF_HOOK.items():
        assert without_row((one.name for one in known_checks(kind)), PAGES[f"hooks/{hook}.md"]) == []
    assert check_pages.KIND_OF_HOOK.keys() == set(HOOKS)


def test_every_statistic_is_defined() -> None:
    text = PAGES["method.md"]
    assert [name for name in tables.built_in().attributions if f"**{name}**" not in text] == ["pearson"]
    assert "Pearson's correlation" in text


def test_that_a_missing_row_would_be_seen() -> None:
    assert without_row(["prompt.steps", "prompt.made_up"], PAGES["settings.md"]) == ["prompt.made_up"]
    assert without_row(["made_up"], PAGES["reading.md"]) == ["made_up"]


# What is made from the code is fresh


def test_the_pages_are_fresh() -> None:
    assert making.stale() == [], "write the pages again with: make docs-pages"


def test_that_a_stale_page_would_be_seen(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    assert making.stale(tmp_path) == []
    page = tmp_path / "docs" / "commands" / "run.md"
    page.write_text(page.read_text().replace("--dry-run", "--wet-run"))
    (tmp_path / "docs" / "hooks" / "cell_finished.md").unlink()
    told = making.stale(tmp_path)
    assert any("-| `--wet-run`" in line for line in told)
    assert any("+# cell_finished" in line for line in told)


def test_no_block_is_left_open() -> None:
    for page, text in {**PAGES, "mkdocs.yml": (ROOT / "mkdocs.yml").read_text()}.items():
        marks = len(re.findall(r"^ *(?:<!--|#) (?:generated: |end of generated)", text, re.MULTILINE))
        assert marks == 2 * len(BLOCK.findall(text)), page


def test_a_block_is_filled_and_its_surroundings_stay() -> None:
    makers = {"one": lambda: "ONE", "two": lambda name: f"- {name}\n- b"}
    text = "a\n<!-- generated: one -->\nold\n<!-- end of generated -->\nz\n"
    made = "a\n<!-- generated: one -->\n\nONE\n\n<!-- end of generated -->\nz\n"
    assert filled(text, makers) == made == filled(made, makers)
    yaml = "nav:\n  # generated: two x\n  # end of generated\n"
    assert filled(yaml, makers) == "nav:\n  # generated: two x\n  - x\n  - b\n  # end of generated\n"
    with pytest.raises(KeyError, match="made-up"):
        filled(text.replace("one", "made-up"), makers)


def test_a_bar_in_a_cell_is_no_border() -> None:
    assert table(("a",), [("x | `p|q` `r`\nz",)]) == "| a |\n| --- |\n| x \\| <code>p&#124;q</code> `r` z |"


# What the pages say is true


@pytest.mark.parametrize("name", command_pages.commands())
def test_the_page_of_a_command_says_what_help_says(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    parser = command_pages.commands()[name]
    texts = []
    for words in [[name], *([name, inner] for inner in command_pages.parts(parser))]:
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        texts.append(" ".join(capsys.readouterr().out.split()))
    printed, page = " ".join(texts), PAGES[f"commands/{name}.md"]
    for action in command_pages.options(parser):
        for text in (*action.option_strings, (action.help or "").replace("%%", "%")):
            assert text in printed
            assert text.replace("|", r"\|") in page
    assert f"{parser.prog} " in page


def commands_of(text: str) -> list[list[str]]:
    """Return the arguments of every skillneurons command on a page: in its fences, and what stands in a line with arguments."""
    typed = [line for fence in FENCE.finditer(text) for line in fence["code"].replace("\\\n", " ").splitlines()]
    typed += re.findall(r"`(skillneurons [a-z]+ [^`]+)`", FENCE.sub("", text))
    lines = [re.split(r" [|&]{1,2} ", line.strip().removeprefix("$ "))[0] for line in typed]
    return [shlex.split(line, comments=True)[1:] for line in lines if re.match(r"skillneurons [a-z]+(\s|$)", line)]


def refused(arguments: list[str]) -> bool:
    """Return whether the parser takes no such command."""
    try:
        build_parser().parse_args(arguments)
    except SystemExit as stop:
        return stop.code != 0
    return False


@pytest.mark.parametrize("page", PAGES)
def test_every_command_on_a_page_can_be_given(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    written = BLOCK.sub("", PAGES[page])  # usage lines in generated blocks are no commands
    assert [words for words in commands_of(written) if refused(words)] == []


def test_that_a_wrong_command_would_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    text = "```text\nskillneurons run \\\n  --stepz 1\n```\nand `skillneurons fly away` and `skillneurons list tasks`\n"
    assert commands_of(text) == [["run", "--stepz", "1"], ["fly", "away"], ["list", "tasks"]]
    assert [refused(words) for words in commands_of(text)] == [True, True, False]


@pytest.mark.parametrize(("page", "name", "code"), PLUGINS, ids=[f"{page}:{name}" for page, name, _ in PLUGINS])
def test_every_plugin_on_a_page_keeps_the_contract(
    page: str, name: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_text(code)
    findings = check_plugin(str(file))
    assert [one for one in findings if one.status == "failed"] == []
    assert len(findings) > 3
    if "def cell_finished" in code:
        registry = load_registry([str(file)])
        result = argparse.Namespace(key="a-key", status="ok", columns={"a": {}})
        assert registry.notify("cell_finished", result=result) == []
        assert capsys.readouterr().out == "a-key: ok, 1 columns\n"


def test_there_are_plugins_to_try() -> None:
    assert {name for _, name, _ in PLUGINS} >= {"larger.py", "answer_words.py", "slope.py", "has_word.py"}


# The site


class _Asked(HTMLParser):
    """What a page asks for: scripts, styles, pictures, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") not in ("next", "prev", "canonical"):
            self.urls.append(given.get("href") or "")
        elif tag in ("script", "img", "iframe", "source", "video", "audio", "embed", "object"):
            self.urls += [url for url in (given.get("src"), given.get("data")) if url]


def asked_for(html: str) -> list[str]:
    """Return what a page would fetch from elsewhere."""
    parser = _Asked()
    parser.feed(html)
    return [url for url in parser.urls if re.match(r"(https?:)?//", url)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built site; a link that leads nowhere fails the build."""
    out = tmp_path_factory.mktemp("docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_the_site_has_every_page_and_asks_for_nothing_from_elsewhere(site: Path) -> None:
    made = {path.relative_to(site).as_posix(): path.read_text() for path in site.rglob("*.html")}
    assert {page.removesuffix(".md") + ".html" for page in PAGES} <= made.keys()
    assert {page: asked_for(html) for page, html in made.items() if asked_for(html)} == {}
    assert not list(site.rglob("*.py"))


def test_that_a_page_which_asks_for_something_would_be_seen() -> None:
    html = (
        '<link rel="stylesheet" href="https://fonts/x.css"><script src="//cdn/x.js"></script><a href="https://ok">a</a>'
    )
    assert asked_for(html) == ["https://fonts/x.css", "//cdn/x.js"]


def test_formulas_are_mathml(site: Path) -> None:
    html = (site / "method.html").read_text()
    assert html.count("<math") > 80 and "arithmatex" not in html and "$$" not in html


def test_a_formula_that_cannot_be_read_names_its_page() -> None:
    assert "<msup>" in with_mathml(r'<span class="arithmatex">\(r^2\)</span>', "x.md")
    with pytest.raises(ValueError, match=r"^x\.md: the formula 'x\^' cannot be read: "):
        with_mathml(r'<div class="arithmatex">\[x^\]</div>', "x.md")
    with pytest.raises(ValueError, match=r"^x\.md: the formula '.*made\{1\}' cannot be read: it knows no \\made$"):
        with_mathml(r'<div class="arithmatex">\[\made{1}\]</div>', "x.md")
