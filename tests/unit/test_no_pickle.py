"""Nothing in the source tree can be made to run what it reads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for folder in ("robostack", "policies", "sim", "hardware")
    for path in (ROOT / folder).rglob("*.py")
)
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "marshal", "dill", "cloudpickle"}
UNSAFE_MODULES |= {"shelve", "joblib", "jsonpickle"}
UNSAFE_CALLS = {"eval", "exec", "compile"}
HARMLESS = {"pickle.UnpicklingError"}  # to catch what torch raises


def offences(source: str) -> list[str]:
    """Return what in `source` could run what it reads, by line."""
    tree = ast.parse(source)
    found = [line for node in ast.walk(tree) for line in _offence(node)]
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    named = {ast.unparse(n) for n in uses}
    only_caught = {f"import {m}" for m in UNSAFE_MODULES if _harmless(m, named)}
    return [line for line in found if line not in only_caught]


def _harmless(module: str, named: set[str]) -> bool:
    uses = {name for name in named if name.startswith(f"{module}.")}
    return bool(uses) and uses <= HARMLESS


def _offence(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        names = {alias.name.partition(".")[0] for alias in node.names}
        return [f"import {name}" for name in sorted(names & UNSAFE_MODULES)]
    if isinstance(node, ast.ImportFrom):
        name = (node.module or "").partition(".")[0]
        return [f"from {name}"] if name in UNSAFE_MODULES else []
    return _call(node) if isinstance(node, ast.Call) else []


def _call(node: ast.Call) -> list[str]:
    name = ast.unparse(node.func)
    keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
    if name in UNSAFE_CALLS:
        return [name]
    if name == "torch.load" and keywords.get("weights_only") != "True":
        return ["torch.load without weights_only=True"]
    if keywords.get("allow_pickle", "False") != "False":
        return ["allow_pickle"]
    last = name.rpartition(".")[2]
    return [last] if last in {"recv_pyobj", "send_pyobj", "read_pickle"} else []


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_source_file_runs_nothing_that_it_reads(path):
    assert not offences(path.read_text())


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "import pickle as p", "from pickle import loads"),
        *("import dill", "import marshal", "import os, cloudpickle"),
        *("torch.load(p)", "torch.load(p, weights_only=False)", "eval(x)"),
        *("np.load(p, allow_pickle=True)", "socket.recv_pyobj()", "exec(x)"),
        "import pickle\npickle.loads(x)\npickle.UnpicklingError",
    ],
)
def test_the_search_finds(source):
    assert offences(source)


def test_the_search_looked_at_the_whole_tree():
    assert len(SOURCES) > 100
