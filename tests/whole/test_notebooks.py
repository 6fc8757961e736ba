"""The grammar of notebooks: a chapter narrates, calls, shows and checks."""

import ast
import re

import nbformat
import pytest
from trees import STAGES

from commoncanvas.core import paths

TAGS = {"parameters", "hide-input", "check", "wide", "remove-cell"}
TYPES = {"int", "float", "str", "bool", "list", "dict"}
MAX_CELL_LINES, MAX_CELLS, MAX_LINES, MAX_BYTES = 12, 40, 160, 200_000
PARAMETER = re.compile(r"\w+: .+ = .+  # \S.+")
BRITISH = {"licenses": "licences"}  # slugs use the field's spelling, prose its own
BANNED = {
    r"^\s*[%!]": "a magic or a shell line",
    r"\bpip install\b": "an installation",
    r"\bsys\.path\b": "sys.path",
    r"filterwarnings|simplefilter": "silenced warnings",
    r"plt\.show\(": "a bare plt.show()",
    r"\b(get_ipython|__import__)\(": "a call around the rules",
}
FIXTURES = paths.ROOT / "tests" / "fixtures"


def faults(path):
    """Return every breach of the grammar in one notebook, in words."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    cells = notebook.cells
    found = [*_form_faults(notebook, text), *_order_faults(path.stem, cells)]
    for number, cell in enumerate(cells, start=1):
        tags = cell.metadata.get("tags", [])
        found += [f"cell {number} has the unknown tag {t}" for t in set(tags) - TAGS]
        if cell.cell_type == "code":
            found += [f"cell {number} {fault}" for fault in _code_faults(cell, tags)]
    return found


def _form_faults(notebook, text):
    if text != nbformat.writes(notebook) + "\n":
        yield "is not in normal form (indent 1, sorted keys, final newline)"
    if set(notebook.metadata) - {"kernelspec", "title"}:
        yield "has metadata beside kernelspec and title"
    kernel = notebook.metadata.get("kernelspec", {})
    if (kernel.get("name"), kernel.get("language")) != ("python3", "python"):
        yield "has no kernelspec python3 with the language python"
    ids = [cell.get("id") for cell in notebook.cells]
    if None in ids or len(set(ids)) != len(ids):
        yield "has cells without an id of their own"
    if len(notebook.cells) > MAX_CELLS or len(text.encode()) > MAX_BYTES:
        yield f"has more than {MAX_CELLS} cells or {MAX_BYTES} bytes"
    lines = sum(len(_lines(c)) for c in notebook.cells if c.cell_type == "code")
    if lines > MAX_LINES:
        yield f"has {lines} code lines; at most {MAX_LINES}"


def _order_faults(stem, cells):
    if len(cells) < 9:
        yield "has fewer than nine cells"
        return
    number, word = stem.split("_", 1)
    wanted = [f"# {number} · ", "## What the paper says", "## What we do differently"]
    for place, start in enumerate(wanted):
        if cells[place].cell_type != "markdown" or start not in cells[place].source:
            yield f"cell {place + 1} is not the markdown `{start}`"
    title = cells[0].source.splitlines()[0]
    if BRITISH.get(word, word) != _title_word(title):
        yield f"is called {stem} but its title is `{title}`"
    if "**Paper ·**" not in cells[1].source:
        yield "cell 2 has no voice **Paper ·**"
    tagged = [n for n, c in enumerate(cells, 1) if "parameters" in _tags(c)]
    if tagged != [4]:
        yield f"has parameters in the cells {tagged}; exactly in 4"
    if "hide-input" not in _tags(cells[4]) or cells[4].cell_type != "code":
        yield "cell 5 is not the hidden set-up"
    if cells[-1].cell_type == "code" and "hide-input" in _tags(cells[-1]):
        cells = cells[:-1]  # what we saw, as sentences made from values
    if not cells[-1].source.startswith("## What we saw"):
        yield "does not end with `## What we saw`"
    code = [cell for cell in cells if cell.cell_type == "code"]
    if "hide-input" not in _tags(code[-1]) or cells[-2] is not code[-1]:
        yield "does not say what was written in the last but one cell, hidden"
    if "check" not in _tags(code[-2]) or sum("check" in _tags(c) for c in cells) != 1:
        yield "has not exactly one `check` cell, before what was written"
    for place, cell in enumerate(cells[6:], start=7):
        hidden = {"hide-input", "remove-cell"} & set(_tags(cell))
        if cell.cell_type == "code" and not hidden:
            if cells[place - 2].cell_type != "markdown":
                yield f"cell {place} shows something that no prose announces"


def _title_word(title):
    return title.rpartition("·")[2].strip().lower().replace(" ", "_")


def _code_faults(cell, tags):
    if cell.get("outputs") or cell.get("execution_count") is not None:
        yield "holds outputs; run `make lint` after `nbstripout --keep-id`"
    for pattern, name in BANNED.items():
        if re.search(pattern, cell.source, re.MULTILINE):
            yield f"holds {name}"
    if "parameters" in tags:
        yield from _parameter_faults(cell)
    elif len(_lines(cell)) > MAX_CELL_LINES:
        yield f"has {len(_lines(cell))} lines; at most {MAX_CELL_LINES}"
    try:
        tree = ast.parse(cell.source)
    except SyntaxError:
        yield "is not Python"
        return
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Expr) and node is not tree.body[-1] and _draws(node):
            yield f"draws at line {node.lineno} and shows nothing; use figures.show"
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    if any(isinstance(node, kinds) for node in nodes):
        yield "defines a function or a class; move it to the package"
    if any(
        isinstance(n, ast.Assign) and isinstance(n.value, ast.Lambda) for n in nodes
    ):
        yield "gives a lambda a name; move it to the package"
    if any(a.name == "*" for n in nodes for a in getattr(n, "names", []) if _from(n)):
        yield "imports everything"


def _draws(expression):
    """Tell whether this makes a figure, which only a cell's last expression shows."""
    name = ast.unparse(expression.value).partition("(")[0]
    return name.startswith(("figures.", "plots.")) and name != "figures.show"


def _parameter_faults(cell):
    for line in _lines(cell):
        if not PARAMETER.fullmatch(line):
            yield f"has `{line}`, not `name: type = default  # meaning`"
    for node in ast.parse(cell.source).body:
        name = ast.unparse(node)
        if not isinstance(node, ast.AnnAssign) or not _is_literal(node.value):
            yield f"has `{name}`, which is not a typed literal"
        elif ast.unparse(node.annotation).partition("[")[0] not in TYPES:
            yield f"has `{name}`; the types are {', '.join(sorted(TYPES))}"


def _is_literal(node):
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def _from(node):
    return isinstance(node, ast.ImportFrom)


def _tags(cell):
    return cell.metadata.get("tags", [])


def _lines(cell):
    return [line for line in cell.source.splitlines() if line.strip()]


def test_the_notebooks_are_the_stages():
    assert [path.stem for path in sorted(paths.NOTEBOOKS.glob("*.ipynb"))] == STAGES


@pytest.mark.parametrize("slug", STAGES)
def test_a_notebook_keeps_the_grammar(slug):
    assert faults(paths.NOTEBOOKS / f"{slug}.ipynb") == []


def test_a_notebook_without_a_fault_has_none():
    assert faults(FIXTURES / "01_chapter.ipynb") == []


@pytest.mark.parametrize(
    ("fixture", "fault"),
    [
        ("01_defines_a_function", "cell 8 defines a function or a class"),
        ("01_has_a_long_cell", "cell 8 has 13 lines; at most 12"),
        ("01_has_an_unknown_tag", "cell 8 has the unknown tag hide_input"),
    ],
)
def test_a_faulty_notebook_has_exactly_its_fault(tmp_path, fixture, fault):
    path = tmp_path / "01_chapter.ipynb"
    path.write_bytes((FIXTURES / f"{fixture}.ipynb").read_bytes())
    (found,) = faults(path)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("place", "new", "fault"),
    [
        (1, "## The paper", "cell 2 is not the markdown"),
        (1, "## What the paper says", "cell 2 has no voice"),
        (3, "seed = 1  # untyped", "cell 4 has `seed = 1"),
        (3, "seed: int = 1 + 1  # sum", "cell 4 has `seed: int = 1 + 1`"),
        (3, "seed: int = 1", "cell 4 has `seed: int = 1`, not"),
        (3, "seed: Path = 1  # odd", "cell 4 has `seed: Path = 1`; the types"),
        (7, "%matplotlib inline", "cell 8 holds a magic"),
        (7, "x = lambda y: y", "cell 8 gives a lambda a name"),
        (7, "from math import *", "cell 8 imports everything"),
        (
            7,
            "if rows:\n    plots.bars(rows)",
            "cell 8 draws at line 2 and shows nothing",
        ),
        (7, "figures.table(rows)\nrows", "cell 8 draws at line 1 and shows nothing"),
        (11, "## The end", "does not end with"),
    ],
)
def test_each_rule_can_fail(tmp_path, place, new, fault):
    notebook = nbformat.read(FIXTURES / "01_chapter.ipynb", as_version=4)
    notebook.cells[place].source = new
    path = tmp_path / "01_chapter.ipynb"
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    assert any(found.startswith(fault) for found in faults(path))


def test_a_notebook_may_end_with_sentences_made_from_values(tmp_path):
    notebook = nbformat.read(FIXTURES / "01_chapter.ipynb", as_version=4)
    said = nbformat.v4.new_code_cell("figures.findings(said)", id="said")
    path = tmp_path / "01_chapter.ipynb"
    for tags in ([], ["hide-input"]):
        said.metadata.tags = tags
        notebook.cells = [*notebook.cells[:12], said]
        path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        assert (faults(path) == []) == bool(tags)


def test_kept_outputs_are_a_fault(tmp_path):
    notebook = nbformat.read(FIXTURES / "01_chapter.ipynb", as_version=4)
    notebook.cells[7].outputs = [nbformat.v4.new_output("stream", text="x")]
    path = tmp_path / "01_chapter.ipynb"
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    assert any("holds outputs" in found for found in faults(path))


def test_another_indentation_is_a_fault(tmp_path):
    text = (FIXTURES / "01_chapter.ipynb").read_text(encoding="utf-8")
    path = tmp_path / "01_chapter.ipynb"
    path.write_text(text.replace("\n ", "\n  "), encoding="utf-8")
    assert any("normal form" in found for found in faults(path))
