"""Mutation tests: one small mistake at a time is put into the library; do the notebooks notice?

    python tools/mutants.py [--n 150] [--seed 0] [--modules models.sites evals ...] [--users 2]
                            [--timeout 90] [--workers 1] [--out FILE.json] [--list] [--root DIR]
    python tools/mutants.py --check        # does this script see killed and surviving mutants?

A mutant is a change at one place of an exported cell. It is put into the notebook that owns the
cell, as it is tested, and into the module that other notebooks import; nothing is written into the
project. The owner runs first, then up to `--users` other library notebooks that import the module.
Half of the mutants are *plain* (operators, constants, conditions), half *semantic* (the wrong arm,
split, layer, index, mask or order). The same seed on the same notebooks gives the same mutants.
With `--out`, what is known is kept after each mutant, and the same command goes on from there.
"""

import argparse
import ast
import collections
import configparser
import contextlib
import copy
import importlib
import importlib.abc
import importlib.util
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {
    'torch',
    'numpy',
    'pandas',
    'scipy',
    'sklearn',
    'pyarrow',
    'transformers',
    'tokenizers',
    'safetensors',
    'datasets',
    'nnsight',
    'peft',
    'altair',
    'yaml',
    'tqdm',
    'fastcore',
}
GIB = 2**30
MEMORY = 12 * GIB  # that a mutant may take beyond what its parent has
LEAST_SECONDS = 30  # before a mutant counts as hanging

# ---------------------------------------------------------------- the project

EXPORT = re.compile(r'^\s*#\s*\|\s*export[is]?\s*$', re.M)
DEFAULT_EXP = re.compile(r'^\s*#\s*\|\s*default_exp\s+(\S+)', re.M)
NOT_RUN = re.compile(r'^\s*#\s*\|\s*(slow|gpu|eval:\s*false)\b', re.M)
SKIP_EXEC = re.compile(r'^skip_exec:\s*true', re.M | re.I)


@dataclass
class Notebook:
    "A library notebook: its module, its code cells, and what these import."

    path: Path
    name: str  # relative to the project
    module: str  # below the package
    cells: dict  # number of the cell -> source, code cells only
    imports: dict  # full module name -> names taken from it

    @property
    def size(self) -> int:
        "Characters of code, a guess at how long it runs."
        return sum(map(len, self.cells.values()))

    def exported(self):
        "Number, source and tree of each exported cell that runs in tests."
        for i, source in self.cells.items():
            if EXPORT.search(source) and not NOT_RUN.search(source):
                tree = parsed(source)
                if tree is not None:
                    yield i, source, tree


@dataclass
class Project:
    "Where things are, from settings.ini, and the library notebooks."

    root: Path
    package: str
    lib: Path
    flags: list
    notebooks: list

    def module_file(self, module: str) -> Path:
        "The exported file of a module."
        return self.lib.joinpath(*module.split('.')).with_suffix('.py')


def parsed(source: str):
    "The tree of a cell, or None where it is no plain Python."
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None


def imports_of(cells: dict, package: str, module: str) -> dict:
    "Full names of the modules that cells import, with the names taken from each."
    found = collections.defaultdict(set)
    here = f'{package}.{module}'.split('.')
    for source in cells.values():
        for node in ast.walk(parsed(source) or ast.Module([], [])):
            if isinstance(node, ast.Import):
                for a in node.names:
                    found[a.name]
            elif isinstance(node, ast.ImportFrom):
                base = here[: len(here) - node.level] if node.level else []
                full = '.'.join(base + ([node.module] if node.module else []))
                for a in node.names:
                    found[full].add(a.name)
                    found[f'{full}.{a.name}']
    return dict(found)


def read_notebook(path: Path, root: Path, package: str):
    "A library notebook, or None for another one."
    cells = {}
    for i, c in enumerate(json.loads(path.read_text(encoding='utf-8'))['cells']):
        source = ''.join(c['source'])
        if c['cell_type'] == 'code':
            cells[i] = source
        elif SKIP_EXEC.search(source) and (c['cell_type'] == 'raw' or i < 2):
            return None
    module = next((m[1] for s in cells.values() if (m := DEFAULT_EXP.search(s))), None)
    if module is None:
        return None
    name = path.relative_to(root).as_posix()
    return Notebook(path, name, module, cells, imports_of(cells, package, module))


def read_project(root: Path) -> Project:
    "The project in a folder."
    parser = configparser.ConfigParser(delimiters=['='], interpolation=None)
    parser.read(root / 'settings.ini', encoding='utf-8')
    cfg = parser['DEFAULT']
    lib = root / cfg.get('lib_path', cfg['lib_name'])
    paths = sorted((root / cfg.get('nbs_path', 'nbs')).rglob('*.ipynb'))
    hidden = [p for p in paths if any(x.startswith('.') for x in p.relative_to(root).parts)]
    found = [read_notebook(p, root, lib.name) for p in paths if p not in hidden]
    notebooks = [n for n in found if n is not None]
    return Project(root, lib.name, lib, cfg.get('tst_flags', '').split(), notebooks)


def room_of(module: str) -> str:
    "The first part of a module's path; `top` for a module in no room."
    return module.split('.')[0] if '.' in module else 'top'


def users_of(project: Project, owner: Notebook, name: str) -> list:
    "Library notebooks that import a module: those that name the function first, then small ones."
    full = f'{project.package}.{owner.module}'
    used = [n for n in project.notebooks if n is not owner and full in n.imports]
    top = name.split('.')[0]
    return sorted(used, key=lambda n: (top not in n.imports[full], n.size, n.name))


# ---------------------------------------------------------------- one cell and its places

FAMILIES = [
    set(words.split())
    for words in (
        'train val valid test fit select held',
        'base tuned model lm other',
        'pos neg',
        'positive negative',
        'right wrong',
        'good bad',
        'steered unsteered plain baseline control',
        'real random shuffled null',
        'layer depth block step stage',
        'layers depths blocks steps',
        'start stop end first last begin',
        'a b',
        'x y',
        'i j',
        'row col item cell',
        'rows cols items cells',
        'source target src dst clean corrupt',
        'sources targets',
        'mask keep valid',
        'lo hi',
        'low high lower upper',
        'before after',
        'left right',
        'old new',
        'own other',
        'mine other',
        'pre post mid',
        'in out',
        'enc dec',
        'min max',
        'prompt answer',
        'question answer',
        'gold got want',
        'mlp attn',
        'up down',
        'mean std',
        'head tail',
        'p q',
        'key value query',
        'u v',
        'add sub',
        'raw unit resid',
        'encoder decoder',
    )
]
MASKS = set(
    (
        'mask masks keep valid ok used sel select done kept finite single wanted hit hits inside '
        'seen correct chosen alive held real own ours mine good'
    ).split()
)
ORDERS = set(('order perm permutation rank ranks idx inverse back argsort shuffled at').split())
COUNTS = set(
    ('i j k n m step steps depth layer layers rows count first last start stop at end').split()
)
INDEXES = set(('i j k t layer depth step stage block pos position start').split())
QUIET_CALLS = set(
    (
        'print say warn warning info debug error log progress tick suggest update display close '
        'set_description filterwarnings simplefilter'
    ).split()
)
QUIET_KEYWORDS = set(
    (
        'desc title label name unit help doc msg message text contains seed width height indent '
        'digits ndigits decimals timeout workers chunk rows size prefix suffix format fmt errors '
        'encoding newline color colour dtype device sep end'
    ).split()
)
QUIET_FUNCTIONS = re.compile(
    r'repr|__str__|progress|budget|html|chart|plot|show|display|describe|'
    r'help|usage|^main$|default_rows|warn|_fmt|pretty|say$|message'
)
QUIET_TARGETS = re.compile(
    r'(^|_)(budget|chunk|batch_tokens|batch_size|tick|bar|workers|timeout|eta|cost|desc|title|msg|'
    r'message|note|why|text|hint)$'
)
ELSEWHERE = re.compile(r'cuda|\bmps\b|win32|darwin|os\.name')
LIBRARIES = {'np', 'torch', 'pd', 'F', 'math', 'nn', 'plt', 'alt', 'os', 're', 'json'}
DANGER = re.compile(r'\b(rmtree|unlink|rmdir|os\.remove|os\.kill|killpg|scancel|os\.replace)\b')
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SIMPLE = (ast.Name, ast.Attribute, ast.Subscript, ast.Call)


def words(name: str) -> list:
    "Parts of an identifier."
    return [w for w in re.split(r'[_\d.]+', name.lower()) if w]


def last_name(node) -> str:
    "The last part of a dotted name: `c` of `a.b.c`."
    return getattr(node, 'attr', None) or getattr(node, 'id', '')


class Cell:
    "The source of a cell by the positions of its nodes, and who is whose parent."

    def __init__(self, source: str, tree):
        "Note where lines start."
        self.bytes = source.encode()
        self.starts = [0]
        for line in self.bytes.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.tree = tree
        self.parent = {c: p for p in ast.walk(tree) for c in ast.iter_child_nodes(p)}
        self.stores = {}

    def span(self, node) -> tuple:
        "Where a node starts and ends, in bytes."
        start = self.starts[node.lineno - 1] + node.col_offset
        return start, self.starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node) -> str:
        "The source of a node."
        start, end = self.span(node)
        return self.bytes[start:end].decode()

    def closed(self, node) -> str:
        "The source of a node, in brackets if it needs them."
        return self.text(node) if isinstance(node, SIMPLE) else f'({self.text(node)})'

    def between(self, left, right, pattern: str, new: str):
        "Replace what matches between two nodes, such as an operator."
        start, end = self.span(left)[1], self.span(right)[0]
        found = re.search(pattern, self.bytes[start:end].decode())
        if found:
            yield start + found.start(), start + found.end(), new

    def whole(self, node, new: str):
        "Replace a node."
        yield *self.span(node), new

    def parents(self, node):
        "The nodes around a node, the nearest first."
        while (node := self.parent.get(node)) is not None:
            yield node

    def function(self, node):
        "The function around a node, or None."
        return next((p for p in self.parents(node) if isinstance(p, FUNCTIONS)), None)

    def qualname(self, node) -> str:
        "Dotted name of the function or class around a node."
        around = [p.name for p in self.parents(node) if isinstance(p, (*FUNCTIONS, ast.ClassDef))]
        return '.'.join(reversed(around))

    def scope(self, node) -> dict:
        "Names bound at a node: name -> what bound it."
        function, names = self.function(node), {}
        if function is None:
            return names
        a = function.args
        for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs):
            names[arg.arg] = arg
        if function not in self.stores:
            self.stores[function] = [
                n
                for n in ast.walk(function)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            ]
        for n in self.stores[function]:
            if n.id not in names and self.bound(n, node):
                names[n.id] = n
        return {k: v for k, v in names.items() if k not in ('self', 'cls', '_')}

    def bound(self, store, use) -> bool:
        "Is a name that is stored in one place known in the other?"
        around = set(self.parents(use))
        for p in self.parents(store):
            if isinstance(p, (*COMPREHENSIONS, *FUNCTIONS)):
                return p in around and (not isinstance(p, FUNCTIONS) or self.earlier(store, use))
        return False

    def earlier(self, store, use) -> bool:
        "Is the statement that stores a name over before the other place?"
        block = next(p for p in self.parents(store) if isinstance(p, ast.stmt))
        done = store if isinstance(block, (ast.For, ast.With)) else block
        if isinstance(self.parent.get(store), ast.NamedExpr):
            done = self.parent[store]
        return self.span(done)[1] <= self.span(use)[0]


@dataclass
class Vocabulary:
    "Words that occur in a notebook's exported code, so that a changed name still means something."

    strings: set = field(default_factory=set)
    attributes: set = field(default_factory=set)

    def read(self, tree) -> None:
        "Learn the words of a cell."
        for n in ast.walk(tree):
            if isinstance(n, ast.Constant) and isinstance(n.value, str):
                self.strings.add(n.value)
            elif isinstance(n, ast.keyword) and n.arg:
                self.strings.add(n.arg)
            elif isinstance(n, ast.Attribute):
                self.attributes.add(n.attr)
            elif isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name):
                self.attributes.add(n.target.id)


def relatives(name: str, known) -> list:
    "Known names that differ from a name by one word of the same family, or by a number."
    parts, found = re.split(r'([_.])', name), []
    for k, part in enumerate(parts):
        for family in FAMILIES:
            if part in family:
                made = (''.join([*parts[:k], other, *parts[k + 1 :]]) for other in sorted(family))
                found += [n for n in made if n != name and n in known]
    stem = name.rstrip('0123456789')
    if stem.isidentifier():
        numbered = (n for n in known if n.rstrip('0123456789') == stem and n != name)
        found += sorted(numbered)
    return list(dict.fromkeys(found))


# ---------------------------------------------------------------- rules

RULES = {}


def rule(kind: str, *types):
    "Register a generator of (start, end, new text) for nodes of these types."

    def register(f):
        "Keep it under its name."
        RULES[f.__name__.replace('_', ' ')] = (kind, types, f)
        return f

    return register


COMPARED = {
    ast.Lt: (r'<', ['<=', '>=']),
    ast.LtE: (r'<=', ['<', '>']),
    ast.Gt: (r'>', ['>=', '<=']),
    ast.GtE: (r'>=', ['>', '<']),
    ast.Eq: (r'==', ['!=']),
    ast.NotEq: (r'!=', ['==']),
    ast.In: (r'\bin\b', ['not in']),
    ast.NotIn: (r'\bnot\s+in\b', ['in']),
    ast.Is: (r'\bis\b', ['is not']),
    ast.IsNot: (r'\bis\s+not\b', ['is']),
}


@rule('plain', ast.Compare)
def comparison(cell, node, vocabulary):
    "`<` becomes `<=`, `in` becomes `not in`."
    sides = [node.left, *node.comparators]
    for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
        pattern, others = COMPARED[type(op)]
        whole = any(is_whole(cell, side) for side in (left, right))
        for new in others if whole or len(others) == 1 else others[1:]:
            yield from cell.between(left, right, pattern, new)


def is_whole(cell, node) -> bool:
    "A whole number that may well be met exactly? (A measured one is not: `<` and `<=` are alike.)"
    if any(
        isinstance(n, ast.Constant) and (type(n.value) is float or not small(n, 20))
        for n in ast.walk(node)
    ):
        return False
    if small(node, 20) or (isinstance(node, ast.Name) and COUNTS & set(words(node.id))):
        return True
    return bool(re.search(r'\blen\(|\.shape\b|\.size\b|\.count\(|\bn_', cell.text(node)))


OPERATORS = {
    ast.Add: (r'\+', '-'),
    ast.Sub: (r'-', '+'),
    ast.Mult: (r'\*', '/'),
    ast.Div: (r'/', '*'),
    ast.FloorDiv: (r'//', '%'),
    ast.Mod: (r'%', '//'),
    ast.Pow: (r'\*\*', '*'),
}
SEQUENCES = (ast.JoinedStr, ast.List, ast.ListComp, ast.Tuple, ast.Dict, ast.Set, ast.Starred)
TEXTUAL = re.compile(
    r'path|folder|root|dir|home|file|dest|tmp|text|name|str|lines|prompt|join|repr|tokens|ids|list|'
    r'sorted|html|words|suffix|prefix|body|head|keys'
)


def is_sequence(cell, node) -> bool:
    "Text, a list or a path, so that `+` and `/` do not count?"
    if isinstance(node, SEQUENCES) or isinstance(getattr(node, 'value', None), (str, bytes)):
        return True
    if isinstance(node, ast.BinOp):
        return is_sequence(cell, node.left) or is_sequence(cell, node.right)
    if isinstance(node, ast.Call) and last_name(node.func) in ('len', 'sum', 'int', 'float'):
        return False
    return bool(TEXTUAL.search(cell.text(node).lower())) and not isinstance(node, ast.Constant)


@rule('plain', ast.BinOp)
def arithmetic(cell, node, vocabulary):
    "`+` becomes `-`, `*` becomes `/`."
    if type(node.op) in OPERATORS and not is_sequence(cell, node):
        yield from cell.between(node.left, node.right, *OPERATORS[type(node.op)])


@rule('plain', ast.AugAssign)
def update(cell, node, vocabulary):
    "`+=` becomes `-=` or `=`."
    if type(node.op) in OPERATORS and not is_sequence(cell, node.value):
        pattern, new = OPERATORS[type(node.op)]
        yield from cell.between(node.target, node.value, pattern + '=', new + '=')
        if isinstance(node.op, ast.Add):
            yield from cell.between(node.target, node.value, pattern + '=', '=')


def small(node, most: int = 8) -> bool:
    "A small whole number?"
    value = getattr(node, 'value', None)
    return isinstance(node, ast.Constant) and type(value) is int and abs(value) <= most


@rule('plain', ast.Constant)
def off_by_one(cell, node, vocabulary):
    "A small number in an index, slice, range, sum or comparison is one more or less."
    around = cell.parent.get(node)
    if not small(node):
        return
    if isinstance(around, ast.Call) and last_name(around.func) not in ('range', 'arange'):
        return
    counting = (ast.Add, ast.Sub, ast.FloorDiv)
    if isinstance(around, ast.BinOp) and not isinstance(around.op, counting):
        return
    places = (ast.Slice, ast.Call, ast.BinOp, ast.Compare)
    if isinstance(around, places):
        yield from cell.whole(node, str(node.value + 1))
        if node.value > 0 and not (isinstance(around, ast.BinOp) and node.value == 1):
            yield from cell.whole(node, str(node.value - 1))


UNLIKE = set(
    (
        'self cls lm model tokenizer config cfg folder path file p run q spec df item cell name '
        'kind key desc kwargs info meta args int str float bool list'
    ).split()
)
SYMMETRIC = set(
    (
        'map filter max min maximum minimum isinstance getattr setattr hasattr isclose allclose '
        'dict set lcm gcd equal array_equal print add logaddexp zip_longest issubclass'
    ).split()
)


@rule('plain', ast.Call)
def swapped_arguments(cell, node, vocabulary):
    "Two neighbouring arguments change places."
    if last_name(node.func) in SYMMETRIC:
        return
    scope = cell.scope(node)
    for left, right in zip(node.args, node.args[1:], strict=False):
        alike = may_stand_for(cell, left, right, scope)
        if last_name(node.func) == 'where':
            alike = left is node.args[1]
        if alike and not isinstance(left, ast.Starred) and cell.text(left) != cell.text(right):
            (s1, e1), (s2, e2) = cell.span(left), cell.span(right)
            middle = cell.bytes[e1:s2].decode()
            yield s1, e2, cell.text(right) + middle + cell.text(left)


def may_stand_for(cell, left, right, scope: dict) -> bool:
    "Might one argument be of the kind of the other, so that a swap is no mere TypeError?"
    if type(left) is not type(right) or not isinstance(left, SIMPLE):
        return False
    if UNLIKE & {last_name(left), last_name(right)}:
        return False
    kinds = [
        cell.text(a.annotation)
        for n in (left, right)
        if isinstance(n, ast.Name)
        and isinstance(a := scope.get(n.id), ast.arg)
        and a.annotation is not None
    ]
    return len(kinds) < 2 or kinds[0] == kinds[1]


@rule('plain', ast.BoolOp)
def and_or(cell, node, vocabulary):
    "`and` becomes `or`."
    old, new = ('and', 'or') if isinstance(node.op, ast.And) else ('or', 'and')
    for left, right in zip(node.values, node.values[1:], strict=False):
        yield from cell.between(left, right, rf'\b{old}\b', new)


@rule('plain', ast.If, ast.IfExp)
def negated_condition(cell, node, vocabulary):
    "The condition is turned round."
    swapped = isinstance(node.test, ast.Compare) and len(node.test.ops) == 1
    if not swapped and not isinstance(node.test, (ast.UnaryOp, ast.NamedExpr)):
        yield from cell.whole(node.test, f'(not {cell.closed(node.test)})')


@rule('plain', ast.UnaryOp)
def dropped_not(cell, node, vocabulary):
    "`not x` becomes `x`."
    if isinstance(node.op, ast.Not):
        yield from cell.whole(node, cell.closed(node.operand))


COUSINS = dict(
    min='max',
    max='min',
    mean='sum',
    sum='mean',
    any='all',
    all='any',
    argmax='argmin',
    argmin='argmax',
    floor='ceil',
    ceil='floor',
    maximum='minimum',
    minimum='maximum',
    nanmean='nansum',
    nanmax='nanmin',
    nanmin='nanmax',
    std='var',
    var='std',
    startswith='endswith',
    endswith='startswith',
    cummax='cummin',
    idxmax='idxmin',
    intersection='union',
    ffill='bfill',
)


@rule('plain', ast.Call)
def cousin(cell, node, vocabulary):
    "`min` becomes `max`, `mean` becomes `sum`."
    new = COUSINS.get(last_name(node.func))
    if new is None:
        return
    start, end = cell.span(node.func)
    if isinstance(node.func, ast.Name):
        if new not in ('mean', 'ceil', 'floor'):
            yield start, end, new
    else:
        yield end - len(node.func.attr), end, new


BY_AXIS = set(
    (
        'mean sum norm argmax argmin softmax log_softmax cumsum std var all any max min logsumexp '
        'unsqueeze squeeze flip sort argsort median prod amax amin size roll'
    ).split()
)
JOINS = {'cat', 'stack', 'concatenate', 'take', 'repeat', 'roll', 'softmax', 'log_softmax', 'flip'}
OTHER_AXIS = {'0': '-1', '1': '0', '-1': '0', '-2': '-1', '2': '1', '(0, 1)': '0'}


@rule('plain', ast.Call)
def axis(cell, node, vocabulary):
    "Another axis."
    found = [k.value for k in node.keywords if k.arg in ('axis', 'dim')]
    library = last_name(getattr(node.func, 'value', None)) in LIBRARIES
    if isinstance(node.func, ast.Attribute) and last_name(node.func) in BY_AXIS and not library:
        found += node.args[:1]
    if library and last_name(node.func) in JOINS:
        found += node.args[1:2]
    for value in found:
        new = OTHER_AXIS.get(cell.text(value))
        if new:
            yield from cell.whole(value, new)


IDLE_FLAGS = set(
    (
        'exist_ok parents ignore_errors ignore_index copy inplace frozen leave flush text check '
        'capture_output daemon missing_ok start_new_session shell eq repr ensure_ascii quiet '
        'use_cache trust_remote_code strict verbose non_blocking weights_only kw_only sort '
        'observed local_files_only low_cpu_mem_usage universal_newlines'
    ).split()
)


@rule('plain', ast.keyword, ast.arguments)
def flag(cell, node, vocabulary):
    "True becomes False, where it is a default or is handed on."
    if isinstance(node, ast.keyword):
        pairs = [(node.arg or '', node.value)]
    else:
        plain = [*node.posonlyargs, *node.args]
        pairs = list(zip(plain[len(plain) - len(node.defaults) :], node.defaults, strict=True))
        pairs += [
            (a, d) for a, d in zip(node.kwonlyargs, node.kw_defaults, strict=True) if d is not None
        ]
        pairs = [(a.arg, d) for a, d in pairs]
    for name, value in pairs:
        if isinstance(value, ast.Constant) and type(value.value) is bool and name not in IDLE_FLAGS:
            yield from cell.whole(value, str(not value.value))


def same_kind(cell, node, scope: dict) -> list:
    "Other names in scope that are of the same kind as a name: of one signature or one unpacking."
    bound, found = scope.get(node.id), []
    if isinstance(bound, ast.arg) and bound.annotation is not None:
        kind = cell.text(bound.annotation)
        found = [
            n
            for n, o in scope.items()
            if isinstance(o, ast.arg)
            and o.annotation is not None
            and cell.text(o.annotation) == kind
            and kind not in ('bool', 'str')
        ]
    around = cell.parent.get(bound)
    if isinstance(around, ast.Tuple):
        by = cell.parent.get(around)
        said = cell.text(getattr(by, 'iter', None) or getattr(by, 'value', None) or around)
        if not re.search(r'\.items\(|enumerate\(', said) and not isinstance(by, ast.Tuple):
            found += [n.id for n in around.elts if isinstance(n, ast.Name)]
    return [n for n in dict.fromkeys(found) if n != node.id and n in scope]


@rule('semantic', ast.Name)
def wrong_input(cell, node, vocabulary):
    "Another name of the same kind."
    around = cell.parent.get(node)
    called = isinstance(around, ast.Call) and around.func is node
    if not isinstance(node.ctx, ast.Load) or called:
        return
    scope = cell.scope(node)
    if node.id in scope:
        near = dict.fromkeys(relatives(node.id, scope) + same_kind(cell, node, scope))
        for new in list(near)[:3]:
            yield from cell.whole(node, new)


@rule('semantic', ast.Attribute)
def wrong_attribute(cell, node, vocabulary):
    "Another attribute of the same kind."
    called = getattr(cell.parent.get(node), 'func', None) is node
    if called or not isinstance(node.ctx, ast.Load) or last_name(node.value) in LIBRARIES:
        return
    end = cell.span(node)[1]
    for new in relatives(node.attr, vocabulary.attributes)[:2]:
        yield end - len(node.attr.encode()), end, new


@rule('semantic', ast.Constant)
def wrong_key(cell, node, vocabulary):
    "Another word of the same kind, where it is a key, compared or handed on."
    around = cell.parent.get(node)
    if isinstance(around, (ast.Tuple, ast.List)):
        around = cell.parent.get(around)
    if not isinstance(node.value, str) or ' ' in node.value:
        return
    if isinstance(around, (ast.Subscript, ast.Compare, ast.Call, ast.keyword)):
        if len(cell.text(node)) == len(node.value) + 2:
            for new in relatives(node.value, vocabulary.strings)[:2]:
                yield from cell.whole(node, repr(new))


@rule('semantic', ast.Call)
def swapped_keywords(cell, node, vocabulary):
    "Two neighbouring keyword arguments get each other's value."
    for left, right in zip(node.keywords, node.keywords[1:], strict=False):
        both = isinstance(left.value, SIMPLE) and isinstance(right.value, SIMPLE)
        family = relatives(left.arg or '', {right.arg or ''})
        if both and family and cell.text(left.value) != cell.text(right.value):
            (s1, e1), (s2, e2) = cell.span(left.value), cell.span(right.value)
            middle = cell.bytes[e1:s2].decode()
            yield s1, e2, cell.text(right.value) + middle + cell.text(left.value)


@rule('semantic', ast.Tuple)
def swapped_pair(cell, node, vocabulary):
    "Two things change places in an unpacking, an index or a result."
    around = cell.parent.get(node)
    unpacked = isinstance(node.ctx, ast.Store) and isinstance(around, (ast.Assign, ast.For))
    index = isinstance(around, ast.Subscript) and around.slice is node
    if len(node.elts) != 2 or not (unpacked or index or isinstance(around, ast.Return)):
        return
    left, right = node.elts
    said = cell.text(around)
    simple = all(isinstance(e, (ast.Name, ast.Attribute, ast.Subscript)) for e in node.elts)
    if simple and not re.search(r'\.items\(|enumerate\(|, *_\b|\b_ *,', said.split('\n')[0]):
        (s1, e1), (s2, e2) = cell.span(left), cell.span(right)
        middle = cell.bytes[e1:s2].decode()
        yield s1, e2, cell.text(right) + middle + cell.text(left)


def is_mask(cell, node) -> bool:
    "A condition per element?"
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Invert)
    if isinstance(node, ast.Compare):
        return True
    return isinstance(node, (ast.Name, ast.Attribute)) and bool(MASKS & set(words(last_name(node))))


@rule('semantic', ast.Subscript, ast.BinOp, ast.UnaryOp)
def dropped_mask(cell, node, vocabulary):
    "`x[mask]` and `x * mask` become `x`; `~mask` becomes `mask`; `a & b` becomes one of them."
    if isinstance(node, ast.Subscript):
        load = isinstance(node.ctx, ast.Load)
        if load and is_mask(cell, node.slice) and not isinstance(node.slice, ast.UnaryOp):
            yield from cell.whole(node, cell.text(node.value))
    elif isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Invert):
            yield from cell.whole(node, cell.closed(node.operand))
    elif isinstance(node.op, ast.BitAnd) or (
        isinstance(node.op, ast.Mult) and is_mask(cell, node.right)
    ):
        yield from cell.whole(node, cell.closed(node.left))
        if isinstance(node.op, ast.BitAnd):
            yield from cell.whole(node, cell.closed(node.right))


@rule('semantic', ast.keyword)
def dropped_option(cell, node, vocabulary):
    "A mask, weight or condition that is handed on is left out."
    names = ('mask', 'attention_mask', 'where', 'weights', 'weight', 'edits', 'key', 'positions')
    if node.arg in names and not isinstance(node.value, ast.Constant):
        yield from cell.whole(node.value, 'None' if node.arg != 'edits' else '()')


@rule('semantic', ast.comprehension)
def dropped_filter(cell, node, vocabulary):
    "`for x in xs if ok` loses its condition."
    for condition in node.ifs:
        if not any(isinstance(n, ast.NamedExpr) for n in ast.walk(condition)):
            yield from cell.whole(condition, 'True')


def is_index(node) -> bool:
    "A name that counts layers, steps or rows?"
    return isinstance(node, ast.Name) and bool(words(node.id)) and words(node.id)[-1] in INDEXES


@rule('semantic', ast.Subscript)
def wrong_index(cell, node, vocabulary):
    "`x[i]` becomes `x[i - 1]`, `[0]` becomes `[-1]`, `[:k]` becomes `[k:]`."
    many = isinstance(node.slice, ast.Tuple)
    for part in node.slice.elts if many else [node.slice]:
        text = cell.text(part) if not isinstance(part, ast.Slice) else ''
        if is_index(part):
            yield from cell.whole(part, f'{text} - 1')
        elif text in ('0', '1', '-1', '2', '-2'):
            new = {'0': '-1', '-1': '0', '1': '0', '2': '1', '-2': '-1'}[text]
            yield from cell.whole(part, new)
        elif isinstance(part, ast.Slice) and part.step is None:
            yield from turned_slice(cell, part)


def turned_slice(cell, node):
    "`[:k]` becomes `[k:]` and the other way round."
    low, high = node.lower, node.upper
    if low is None and high is not None and not isinstance(high, ast.Constant):
        yield from cell.whole(node, f'{cell.closed(high)}:')
    elif high is None and low is not None and not isinstance(low, ast.UnaryOp):
        yield from cell.whole(node, f':{cell.closed(low)}')


@rule('semantic', ast.Subscript)
def dropped_order(cell, node, vocabulary):
    "`x[order]` and `x[::-1]` become `x`."
    if not isinstance(node.ctx, ast.Load):
        return
    part = node.slice
    turned = isinstance(part, ast.Slice) and part.step is not None and cell.text(part.step) == '-1'
    named = isinstance(part, ast.Name) and ORDERS & set(words(part.id))
    if turned or named:
        yield from cell.whole(node, cell.text(node.value))


DROPPED = set(
    (
        'abs exp log sqrt masked_fill where dropna clip clamp sort_values flip cumsum square '
        'drop_duplicates sort_index fillna log_softmax softmax normalize strip argsort cumprod '
        'triu tril'
    ).split()
)


@rule('semantic', ast.Call)
def dropped_call(cell, node, vocabulary):
    "A step on the way is left out: `.abs()`, `sorted`, `.masked_fill(...)`, `np.sqrt`."
    name = last_name(node.func)
    if isinstance(node.func, ast.Name) and name in ('sorted', 'reversed', 'abs') and node.args:
        said = cell.text(node.args[0])
        if isinstance(node.args[0], ast.GeneratorExp) and not said.startswith('('):
            said = f'({said})'
        yield from cell.whole(node, said if name == 'abs' else f'list({said})')
    elif isinstance(node.func, ast.Attribute) and name in DROPPED:
        library = last_name(node.func.value) in LIBRARIES
        if not library:
            yield from cell.whole(node, cell.closed(node.func.value))
        elif len(node.args) == 1:
            yield from cell.whole(node, cell.closed(node.args[0]))


@rule('semantic', ast.UnaryOp)
def dropped_sign(cell, node, vocabulary):
    "`-x` becomes `x`."
    if isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield from cell.whole(node, cell.closed(node.operand))


@rule('semantic', ast.keyword)
def freedom(cell, node, vocabulary):
    "Another `ddof`, or a dimension that is not kept."
    if node.arg in ('ddof', 'correction') and small(node.value):
        yield from cell.whole(node.value, str(1 - min(node.value.value, 1)))
    elif node.arg in ('unbiased', 'keepdim', 'keepdims') and cell.text(node.value) == 'True':
        yield from cell.whole(node.value, 'False')


# ---------------------------------------------------------------- candidates


@dataclass
class Mutant:
    "A change at one place of one exported cell, and later what became of it."

    notebook: str
    module: str
    function: str
    kind: str
    op: str
    cell: int
    line: int  # in the cell
    start: int  # bytes in the cell
    end: int
    old: str
    new: str
    before: str  # the line before
    after: str  # and after the change
    verdict: str = ''
    killer: str = ''  # the notebook that noticed
    reason: str = ''  # the last line of its error
    seconds: float = 0.0

    @property
    def key(self) -> tuple:
        "What tells it from others."
        return (self.notebook, self.cell, self.start, self.end, self.old, self.new, self.before)

    def apply(self, source: str) -> str:
        "The changed cell."
        raw = source.encode()
        return (raw[: self.start] + self.new.encode() + raw[self.end :]).decode()


def is_quiet_call(node) -> bool:
    "A call that only tells something?"
    if not isinstance(node, ast.Call):
        return False
    name = last_name(node.func)
    return name in QUIET_CALLS or name.endswith(('Error', 'Warning', 'progress'))


def is_idle(cell, node) -> bool:
    "Nothing in there matters to what is computed?"
    if isinstance(node, IDLE):
        return True
    if isinstance(node, FUNCTIONS):
        return bool(QUIET_FUNCTIONS.search(node.name) or DANGER.search(cell.text(node)))
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) or is_quiet_call(node.value)
    if isinstance(node, ast.Call):
        return is_quiet_call(node)
    if isinstance(node, (ast.If, ast.IfExp)):
        return bool(ELSEWHERE.search(cell.text(node.test)))
    if isinstance(node, ast.keyword):
        return node.arg in QUIET_KEYWORDS
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        while isinstance(target, ast.Subscript):
            target = target.value
        return bool(QUIET_TARGETS.search(last_name(target)))
    return False


IDLE = (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr, ast.Global)
UNSEEN = {'annotation', 'returns', 'decorator_list', 'type_params'}


def places(cell, node):
    "Nodes of a tree where a change matters."
    if is_idle(cell, node):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name not in UNSEEN:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from places(cell, child)


def line_of(raw: bytes, start: int) -> tuple:
    "Number and text of the line at a byte."
    first = raw.rfind(b'\n', 0, start) + 1
    last = raw.find(b'\n', start)
    return raw.count(b'\n', 0, start) + 1, raw[first : last if last >= 0 else None].decode().strip()


def cell_mutants(notebook: Notebook, i: int, source: str, tree, vocabulary) -> list:
    "Every mutant of a cell."
    cell, found = Cell(source, tree), {}
    for node in places(cell, tree):
        if cell.function(node) is None:
            continue
        for op, (kind, types, make) in RULES.items():
            if not isinstance(node, types):
                continue
            for start, end, new in make(cell, node, vocabulary):
                old = cell.bytes[start:end].decode()
                line, before = line_of(cell.bytes, start)
                m = Mutant(
                    notebook.name,
                    notebook.module,
                    cell.qualname(node),
                    kind,
                    op,
                    i,
                    line,
                    start,
                    end,
                    old,
                    new,
                    before,
                    '',
                )
                m.after = line_of(m.apply(source).encode(), start)[1]
                if old != new:
                    found.setdefault((start, end, new), m)
    return list(found.values())


def loose(node) -> str:
    "What a statement says, whichever way it names the modules it imports."
    node = copy.deepcopy(node)
    for n in ast.walk(node):
        if isinstance(n, ast.ImportFrom):
            n.module, n.level = '', 0
    return ast.dump(node)


def statement_span(cell: Cell, node) -> tuple:
    "Where a statement starts and ends, decorators included."
    start, end = cell.span(node)
    if getattr(node, 'decorator_list', None):
        start = cell.starts[node.decorator_list[0].lineno - 1]
    return start, end


def mutated_module(text: str, source: str, changed: str):
    "A module's text with a cell's one changed statement in it; None if the module lacks the cell."
    old, new = Cell(source, ast.parse(source)), Cell(changed, ast.parse(changed))
    which = next(
        (
            k
            for k, (a, b) in enumerate(zip(old.tree.body, new.tree.body, strict=True))
            if ast.dump(a) != ast.dump(b)
        ),
        None,
    )
    if which is None:
        return None
    module = Cell(text, ast.parse(text))
    wanted = loose(old.tree.body[which])
    there = [
        n
        for n in module.tree.body
        if type(n) is type(old.tree.body[which])
        and getattr(n, 'name', '') == getattr(old.tree.body[which], 'name', '')
        and loose(n) == wanted
    ]
    if len(there) != 1:
        return None
    start, end = statement_span(module, there[0])
    first, last = statement_span(new, new.tree.body[which])
    return (module.bytes[:start] + new.bytes[first:last] + module.bytes[end:]).decode()


def chosen_notebooks(project: Project, modules: list) -> list:
    "Notebooks of the modules asked for; without a wish, all but those that draw."
    if not modules:
        return [n for n in project.notebooks if not re.search(r'plot|chart', n.module)]
    wanted = [m.strip('.').replace('/', '.') for m in modules]
    wanted = [m.removeprefix(f'{project.package}.') for m in wanted]
    for w in wanted:
        if not any(f'{n.module}.'.startswith(f'{w}.') for n in project.notebooks):
            sys.exit(
                f'no library module {w!r}; rooms and modules: '
                + ', '.join(sorted({n.module.split('.')[0] for n in project.notebooks}))
            )
    return [n for n in project.notebooks if any(f'{n.module}.'.startswith(f'{w}.') for w in wanted)]


def candidates(notebooks: list) -> dict:
    "Mutants by module."
    found = {}
    for n in notebooks:
        vocabulary = Vocabulary()
        for _, _, tree in n.exported():
            vocabulary.read(tree)
        found[n.module] = [
            m
            for i, source, tree in n.exported()
            for m in cell_mutants(n, i, source, tree, vocabulary)
        ]
    return found


class Lottery:
    "Draws mutants: rooms in turn, modules by their code, kinds in turn, then the kind of change."

    def __init__(self, project: Project, found: dict, seed: int):
        "Of the candidates of each module."
        self.rng = random.Random(seed)
        self.project = project
        self.left = {k: list(v) for k, v in found.items() if v}
        self.cells = {n.name: n.cells for n in project.notebooks}
        self.sizes = {
            n.module: sum(len(s.splitlines()) for _, s, _ in n.exported())
            for n in project.notebooks
        }
        self.lines, self.taken, self.texts = set(), collections.Counter(), {}
        self.lost = 0

    def draw(self, n: int) -> list:
        "So many mutants, fewer if there are no more."
        drawn, kinds = [], collections.Counter()
        while len(drawn) < n and self.left:
            rooms = sorted({room_of(m) for m in self.left})
            room = min(rooms, key=lambda r: (self.taken[r], r))
            here = sorted(m for m in self.left if room_of(m) == room)
            module = self.rng.choices(here, [self.sizes[m] for m in here])[0]
            kind = min(('plain', 'semantic'), key=lambda k: kinds[room, k])
            m = self.pick(module, kind) or self.pick(module, None)
            if m is None:
                del self.left[module]
                continue
            drawn.append(m)
            self.taken[room] += 1
            kinds[room, m.kind] += 1
        return drawn

    def pick(self, module: str, kind):
        "One mutant of a module, on a line that has none yet."
        while True:
            there = [
                m
                for m in self.left[module]
                if kind in (None, m.kind) and (m.notebook, m.cell, m.line) not in self.lines
            ]
            if not there:
                return None
            ops = collections.Counter(m.op for m in there)
            op = self.rng.choices(list(ops), [math.sqrt(c) for c in ops.values()])[0]
            m = self.rng.choice([m for m in there if m.op == op])
            self.left[module].remove(m)
            if self.fits(m):
                self.lines.add((m.notebook, m.cell, m.line))
                return m

    def fits(self, m: Mutant) -> bool:
        "Is it Python, another program, and is the cell in the exported module too?"
        if m.module not in self.texts:
            file = self.project.module_file(m.module)
            self.texts[m.module] = file.read_text(encoding='utf-8') if file.is_file() else ''
        source = self.cells[m.notebook][m.cell]
        made = parsed(m.apply(source))
        if made is None or ast.dump(made) == ast.dump(ast.parse(source)):
            return False
        fits = mutated_module(self.texts[m.module], source, m.apply(source)) is not None
        self.lost += not fits
        return fits


# ---------------------------------------------------------------- inside a child


class Replaced(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    "Imports one module from a text of ours."

    def __init__(self, name: str, file: str, text: str):
        "The module's full name, the file it has otherwise, and its text."
        self.name, self.file, self.text = name, file, text

    def find_spec(self, name, path=None, target=None):
        "Ours, if it is that module."
        if name == self.name:
            return importlib.util.spec_from_file_location(name, self.file, loader=self)

    def exec_module(self, module) -> None:
        "Run the text."
        exec(compile(self.text, self.file, 'exec', dont_inherit=True), module.__dict__)

    def get_source(self, name) -> str:
        "The text."
        return self.text


class Guard:
    "Keeps a mutant from deleting, writing or killing what is not its own: an audit hook."

    removes = {'os.remove': 1, 'os.rmdir': 1, 'shutil.rmtree': 1, 'os.rename': 2, 'os.truncate': 1}
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def __init__(self, own: str, kept: list, pid: int):
        "The run's own folder, folders that stay as they are, and the run's process."
        self.own, self.pid = os.path.realpath(own), pid
        self.kept = [os.path.realpath(k) for k in kept]

    def __call__(self, event: str, args: tuple) -> None:
        "Refuse, or say nothing."
        if event == 'open':
            if args[2] & self.writing and isinstance(args[0], (str, bytes)):
                path = self.real(args[0])
                if any(self.inside(path, k) for k in self.kept) and not self.inside(path, self.own):
                    raise PermissionError(f'a mutant may not write {path}')
        elif event in self.removes:
            n = self.removes[event]
            for k, path in enumerate(args[:n]):
                where = args[n + k] if len(args) > n + k and isinstance(args[n + k], int) else -1
                if not isinstance(path, int) and not self.inside(self.real(path, where), self.own):
                    raise PermissionError(f'a mutant may not remove {path!r}')
        elif event in ('os.kill', 'os.killpg') and args[1] and not self.is_child(args[0]):
            raise PermissionError(f'a mutant may not kill {args[0]}')

    @staticmethod
    def inside(path: str, folder: str) -> bool:
        "Is a path in a folder?"
        return path == folder or path.startswith(folder + os.sep)

    @staticmethod
    def real(path, folder: int = -1) -> str:
        "The real path, given one that may be relative to an open folder."
        path = os.fsdecode(path)
        if folder >= 0:
            path = os.path.join(os.readlink(f'/proc/self/fd/{folder}'), path)
        return os.path.join(os.path.realpath(os.path.dirname(path) or '.'), os.path.basename(path))

    def is_child(self, pid: int) -> bool:
        "Did the run start this process?"
        if pid <= 1:
            return False
        with contextlib.suppress(OSError):
            if f'MUTANT_HOME={self.own}'.encode() in Path(f'/proc/{pid}/environ').read_bytes():
                return True
        while pid > 1 and pid != self.pid:
            try:
                pid = int(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[1])
            except OSError:
                return True  # gone: killing it does nothing
        return pid == self.pid


def install(spec: dict) -> None:
    "Put the mutant and the guard into this process."
    if spec.get('module'):
        sys.meta_path.insert(0, Replaced(spec['module'], spec['file'], spec['text']))
    sys.addaudithook(Guard(spec['own'], spec['kept'], spec['pid']))


SITE = """import importlib.util, json
_spec = importlib.util.spec_from_file_location('_mutants', {script!r})
_module = importlib.util.module_from_spec(_spec)
__import__('sys').modules['_mutants'] = _module
_spec.loader.exec_module(_module)
with open({spec!r}, encoding='utf-8') as f: _module.install(json.load(f))
"""


def child_environment(folder: Path, root: Path) -> None:
    "Folders of its own for this run, for it and for what it starts."
    own = {
        k: folder / v
        for k, v in dict(
            TMPDIR='tmp', IPYTHONDIR='ipython', MUTANT_SITE='site', JUPYTER_RUNTIME_DIR='runtime'
        ).items()
    }
    for path in own.values():
        path.mkdir(exist_ok=True)
    os.environ.update({k: str(v) for k, v in own.items()})
    os.environ.pop('STEER_HOME', None)
    old = [p for p in [os.environ.get('PYTHONPATH')] if p]
    os.environ['PYTHONPATH'] = os.pathsep.join([str(own['MUTANT_SITE']), str(root), *old])
    os.environ['MUTANT_HOME'] = os.path.realpath(folder)
    tempfile.tempdir = None


def limit_memory() -> None:
    "A mutant that asks for too much memory fails instead of taking the machine with it."
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def child(project: Project, notebook: Notebook, mutant, folder: Path) -> bool:
    "Run a notebook the way nbdev_test does, with a mutant or none; True if it passes."
    child_environment(folder, project.root)
    cache = os.environ.get('STEER_CACHE') or Path('~/.cache/steer_nb').expanduser()
    spec = dict(own=str(folder), kept=[str(project.root), str(cache)], pid=os.getpid())
    changed = {}
    if mutant is not None:
        owner = next(n for n in project.notebooks if n.name == mutant.notebook)
        source = owner.cells[mutant.cell]
        file = project.module_file(mutant.module)
        text = mutated_module(file.read_text(encoding='utf-8'), source, mutant.apply(source))
        spec |= dict(module=f'{project.package}.{mutant.module}', file=str(file), text=text)
        if owner.name == notebook.name:
            changed[mutant.cell] = mutant.apply(source)
    (folder / 'spec.json').write_text(json.dumps(spec), encoding='utf-8')
    site = SITE.format(script=str(Path(__file__).resolve()), spec=str(folder / 'spec.json'))
    (folder / 'site' / 'sitecustomize.py').write_text(site, encoding='utf-8')
    sys.dont_write_bytecode = True
    limit_memory()
    install(spec)
    return test_notebook(project, notebook, changed)


def test_notebook(project: Project, notebook: Notebook, changed: dict) -> bool:
    "nbdev's own test of a notebook, some of whose cells are changed."
    import nbdev.test

    if 'torch' in sys.modules:
        sys.modules['torch'].set_num_threads(1)
    original = nbdev.test.NBProcessor

    def processor(path, **options):
        "The notebook as it is read, with the changed cells."
        nb = nbdev.test.read_nb(path)
        for i, source in changed.items():
            nb.cells[i].source = source
        return original(path, nb=nb, **options)

    nbdev.test.NBProcessor = processor
    passed, _ = nbdev.test.test_nb(notebook.path, skip_flags=project.flags, basepath=project.root)
    return passed


# ---------------------------------------------------------------- the parent


@dataclass
class Outcome:
    "How a run of a notebook ended: passed, failed or timeout."

    end: str
    seconds: float
    reason: str = ''


class Run:
    "A notebook running in a child process."

    def __init__(self, project: Project, notebook: Notebook, mutant, limit: float, folder: Path):
        "Start it."
        self.notebook, self.folder, self.began = notebook, folder, time.monotonic()
        self.deadline = self.began + limit
        folder.mkdir()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self.live(project, mutant)

    def live(self, project: Project, mutant) -> None:
        "The child's life; does not return."
        code = 1
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            log = os.open(self.folder / 'log', os.O_WRONLY | os.O_CREAT)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if child(project, self.notebook, mutant, self.folder):
                (self.folder / 'passed').touch()
                code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode(errors='replace'))
        finally:
            os._exit(code)

    def kill(self) -> None:
        "End the child and what is in its process group."
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def poll(self):
        "Its outcome, or None while it runs."
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        seconds = time.monotonic() - self.began
        if pid == 0 and time.monotonic() < self.deadline:
            return None
        if pid == 0:
            self.kill()
            outcome = Outcome('timeout', seconds, f'no end after {seconds:.0f} s')
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # what it left behind
            passed = status == 0 and (self.folder / 'passed').exists()
            outcome = Outcome('passed' if passed else 'failed', seconds, self.reason(status))
        shutil.rmtree(self.folder, ignore_errors=True)
        return outcome

    def reason(self, status: int) -> str:
        "The last line of what it wrote, or the signal that ended it."
        if os.WIFSIGNALED(status):
            return f'signal {os.WTERMSIG(status)}'
        with contextlib.suppress(OSError):
            lines = (self.folder / 'log').read_text(errors='replace').strip().splitlines()
            return lines[-1][:200] if lines else ''
        return ''


class Trial:
    "Judges mutants: the owner first, then users of the module, each unmutated once before."

    def __init__(self, project: Project, args, folder: Path, save):
        "With the arguments of the command line, a temporary folder, and what keeps results."
        self.project, self.args, self.folder, self.save = project, args, folder, save
        self.by_name = {n.name: n for n in project.notebooks}
        self.known, self.count = {}, 0

    def baseline(self, notebook: Notebook):
        "The unmutated notebook, run once."
        if notebook.name not in self.known:
            got = yield notebook, None, max(120.0, 3 * self.args.timeout)
            if notebook.name not in self.known and got.end != 'passed':
                print(f'        {notebook.name} fails unmutated, left out: {got.reason}')
            self.known[notebook.name] = got
        return self.known[notebook.name]

    def judge(self, m: Mutant):
        "Find out about a mutant: a generator of runs that wants their outcomes."
        owner, tried = self.by_name[m.notebook], 0
        for notebook in [owner, *users_of(self.project, owner, m.function)]:
            if tried > self.args.users:
                break
            base = yield from self.baseline(notebook)
            if base.end != 'passed':
                if notebook is owner:
                    m.verdict, m.reason = 'excluded', base.reason
                    return
                continue
            tried += 1
            limit = min(self.args.timeout, max(LEAST_SECONDS, 5 * base.seconds))
            got = yield notebook, m, max(limit, 2 * base.seconds)
            m.seconds += got.seconds
            if got.end != 'passed':
                m.killer, m.reason = notebook.name, got.reason
                m.verdict = (
                    'timeout'
                    if got.end == 'timeout'
                    else 'killed by owner'
                    if notebook is owner
                    else 'killed by user'
                )
                return
        m.verdict = 'survived'

    def run(self, mutants: list) -> None:
        "Judge them all, some at a time."
        waiting = [(i, m) for i, m in enumerate(mutants, 1) if not m.verdict]
        waiting.reverse()
        active = {}
        try:
            while waiting or active:
                while waiting and len(active) < max(1, self.args.workers):
                    i, m = waiting.pop()
                    self.go_on(active, i, m, self.judge(m), None)
                time.sleep(0.05)
                for i in list(active):
                    m, judging, run = active[i]
                    outcome = run.poll()
                    if outcome is not None:
                        del active[i]
                        self.go_on(active, i, m, judging, outcome)
        finally:
            for _, _, run in active.values():
                run.kill()

    def go_on(self, active: dict, i: int, m: Mutant, judging, outcome) -> None:
        "Hand an outcome on, and start the next run if one is wanted."
        try:
            notebook, mutant, limit = judging.send(outcome)
            while mutant is None and notebook.name in self.known:
                notebook, mutant, limit = judging.send(self.known[notebook.name])
        except StopIteration:
            m.seconds = round(m.seconds, 1)
            print(f'{i:4d}  {told(m)}  {m.seconds:.1f} s', flush=True)
            self.save()
            return
        self.count += 1
        folder = self.folder / str(self.count)
        active[i] = (m, judging, Run(self.project, notebook, mutant, limit, folder))


def short(text: str, most: int = 60) -> str:
    "Text on one line."
    text = ' '.join(text.split())
    return text if len(text) <= most else text[: most - 1] + '…'


def told(m: Mutant) -> str:
    "A mutant in a line."
    verdict = f'{m.verdict:15s}  ' if m.verdict else ''
    what = f'{short(m.old) or "(nothing)"} -> {short(m.new) or "(nothing)"}'
    return f'{verdict}{m.module}:{m.function}  [{m.kind}: {m.op}]  {what}'


def preload(notebooks: list) -> None:
    "Import the big packages that notebooks use, once, so that each child starts with them."
    import nbdev.test  # noqa: F401

    wanted = sorted({name for n in notebooks for name in n.imports if name.split('.')[0] in HEAVY})
    for name in wanted:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    names = {
        (t / 'comm').read_text().strip()
        for t in Path('/proc/self/task').glob('[0-9]*')
        if int(t.name) != os.getpid()
    }
    if names - {'jemalloc_bg_thd'}:  # an allocator's, which knows how to be forked
        print(f'note: a fork may lack what these threads hold: {sorted(names)}')


# ---------------------------------------------------------------- results

VERDICTS = ('killed by owner', 'killed by user', 'timeout', 'survived')


def wilson(k: int, n: int, z: float = 1.96) -> tuple:
    """The 95 % interval of a share, by Wilson.

    >>> [round(x, 3) for x in wilson(8, 10)]
    [0.49, 0.943]
    """
    if not n:
        return 0.0, 1.0
    p = k / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def row(name: str, mutants: list) -> str:
    "Counts and score of some mutants."
    counts = collections.Counter(m.verdict for m in mutants)
    n = sum(counts[v] for v in VERDICTS)
    killed = n - counts['survived']
    low, high = wilson(killed, n)
    cells = ''.join(f'{c:>9d}' for c in (n, *(counts[v] for v in VERDICTS)))
    score = f'{killed / n:6.1%} [{low:.1%}, {high:.1%}]' if n else '     -'
    return f'{name:28s}{cells}   {score}'


def report(mutants: list) -> str:
    "Tables by room and kind, then the survivors."
    done = [m for m in mutants if m.verdict]
    heads = ''.join(f'{h:>9s}' for h in ('n', 'owner', 'user', 'timeout', 'survived'))
    lines = ['', f'{"":28s}{heads}   score [95 % interval]']
    groups = [[room_of(m.module) for m in done], [m.kind for m in done]]
    for labels in groups:
        for label in sorted(set(labels)):
            lines.append(row(label, [m for m, x in zip(done, labels, strict=True) if x == label]))
        lines.append('')
    lines.append(row('all', done))
    excluded = sum(m.verdict == 'excluded' for m in done)
    if excluded:
        lines.append(f'{excluded} left out: their notebook fails unmutated')
    left = len(mutants) - len(done)
    if left:
        lines.append(f'{left} not run yet')
    alive = [m for m in done if m.verdict == 'survived']
    lines.append(f'\n{len(alive)} survived')
    for m in alive:
        where = f'{m.notebook}, cell {m.cell}, line {m.line}; {m.op}'
        lines += [
            f'\n{m.module}:{m.function}  ({where})',
            f'  - {short(m.before, 400)}',
            f'  + {short(m.after, 400)}',
        ]
    return '\n'.join(lines)


def resume(file: Path, mutants: list, wish: dict) -> None:
    "Take over verdicts from an earlier call with the same arguments."
    if not file.is_file():
        return
    old = json.loads(file.read_text(encoding='utf-8'))
    if old['wish'] != wish:
        sys.exit(f'{file} holds mutants of another call ({old["wish"]}): name another file')
    known = {m.key: m for m in (Mutant(**d) for d in old['mutants']) if m.verdict}
    for m in mutants:
        was = known.get(m.key)
        if was is not None and was.verdict != 'excluded':
            for name in ('verdict', 'killer', 'reason', 'seconds'):
                setattr(m, name, getattr(was, name))


def save(file, mutants: list, wish: dict) -> None:
    "Write the results, whole or not at all."
    if file is None:
        return
    rooms = collections.defaultdict(list)
    for m in mutants:
        if m.verdict in VERDICTS:
            rooms[room_of(m.module)].append(m.verdict != 'survived')
    scores = {k: dict(n=len(v), killed=sum(v)) for k, v in sorted(rooms.items())}
    text = json.dumps(dict(wish=wish, rooms=scores, mutants=[asdict(m) for m in mutants]), indent=1)
    part = file.with_name(file.name + '.part')
    part.write_text(text, encoding='utf-8')
    part.replace(file)


# ---------------------------------------------------------------- does this script work?

TOY = {
    'one': [
        '#| default_exp one',
        """#| export
def inside(values, low, high):
    "Values of a range."
    return [v for v in values if low <= v < high]""",
        'assert inside([1, 2, 3], 1, 3) == [1, 2]',
        'assert inside([3, 2], 2, 4) == [3, 2]',
        """#| export
def lent(values):
    "Tested in another notebook."
    return max(values)""",
        """#| export
def untested(x, y):
    "Tested nowhere."
    return x - y""",
    ],
    'two': [
        '#| default_exp two',
        'import os, subprocess, sys\nfrom toy.one import lent',
        """
said = 'from toy.one import lent; assert lent([1, 5, 2]) == 5'
subprocess.run([sys.executable, '-c', said], check=True)""",
        """
for remove in (os.remove, lambda f: open(f, 'w')):
    try: remove('../settings.ini')
    except PermissionError: continue
    raise SystemExit('the guard sleeps')""",
        """
try: os.kill(os.getppid(), 15)
except PermissionError: pass""",
        '#| export\ndef nothing():\n    return None',
    ],
}


def toy_project(root: Path) -> None:
    "A tiny nbdev project with a tested, a lent and an untested function."
    (root / 'nbs').mkdir()
    (root / 'toy').mkdir()
    (root / 'toy' / '__init__.py').touch()
    settings = dict(
        repo='toy',
        lib_name='toy',
        lib_path='toy',
        nbs_path='nbs',
        user='toy',
        tst_flags='slow',
        version='0.0.1',
        min_python='3.11',
        author='toy',
        author_email='toy@example.com',
        description='toy',
        license='apache2',
    )
    lines = ['[DEFAULT]', *(f'{k} = {v}' for k, v in settings.items())]
    (root / 'settings.ini').write_text('\n'.join(lines) + '\n')
    for name, cells in TOY.items():
        made = [
            dict(cell_type='code', source=s, metadata={}, outputs=[], execution_count=None)
            for s in cells
        ]
        nb = dict(cells=made, metadata={}, nbformat=4, nbformat_minor=5)
        (root / 'nbs' / f'{name}.ipynb').write_text(json.dumps(nb))
        code = [EXPORT.sub('', s) for s in cells if EXPORT.search(s)]
        (root / 'toy' / f'{name}.py').write_text('\n\n'.join(code) + '\n')


def check() -> None:
    "Prove that killed, lent and surviving mutants are told apart, and that a second call goes on."
    import doctest

    assert not doctest.testmod().failed
    with tempfile.TemporaryDirectory() as tmp:
        root = Path(tmp) / 'toy'
        root.mkdir()
        toy_project(root)
        before = {p: p.read_bytes() for p in root.rglob('*') if p.is_file()}
        out = Path(tmp) / 'out.json'
        wish = ['--root', str(root), '--n', '20', '--out', str(out), '--timeout', '60']
        main(wish)
        found = collections.defaultdict(set)
        for m in json.loads(out.read_text())['mutants']:
            found[m['function']].add(m['verdict'])
        wanted = dict(inside={'killed by owner'}, lent={'killed by user'}, untested={'survived'})
        assert dict(found) == wanted, f'{dict(found)} instead of {wanted}'
        stamp = time.monotonic()
        main(wish)
        assert time.monotonic() - stamp < 5, 'the second call ran the mutants again'
        after = {p: p.read_bytes() for p in root.rglob('*') if p.is_file()}
        assert after == before, 'something was written into the project'
    assert 'torch' not in sys.modules
    print('\nmutants.py works: killed by owner, killed by user and survived are told apart')


# ---------------------------------------------------------------- the command


def arguments(argv):
    "What the command line asks for."
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument('--n', type=int, default=150, help='mutants')
    ap.add_argument('--seed', type=int, default=0)
    ap.add_argument('--modules', nargs='*', default=[], help='modules or rooms (default: all)')
    ap.add_argument('--users', type=int, default=2, help='other notebooks run if the owner passes')
    ap.add_argument('--timeout', type=float, default=90, help='seconds, the most for a mutant')
    ap.add_argument('--workers', type=int, default=1, help='mutants at a time')
    ap.add_argument('--out', type=Path, help='results as JSON; the same command goes on from it')
    ap.add_argument('--list', action='store_true', help='show the mutants, run nothing')
    ap.add_argument('--root', type=Path, default=ROOT, help='the project')
    ap.add_argument('--check', action='store_true', help='test this script on a toy project')
    return ap.parse_args(argv)


def show(mutants: list) -> None:
    "The mutants as differences."
    for i, m in enumerate(mutants, 1):
        print(f'{i:4d}  {told(m)}\n      {m.notebook}, cell {m.cell}, line {m.line}')
        print(f'      - {short(m.before, 300)}\n      + {short(m.after, 300)}')


def prepare() -> None:
    "One thread, no network, no bytecode; a polite end is an interrupt."
    for k in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        os.environ[k] = '1'
    os.environ.update(
        HF_HUB_OFFLINE='1', TOKENIZERS_PARALLELISM='false', IN_TEST='1', PYTHONDONTWRITEBYTECODE='1'
    )
    os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def main(argv=None) -> None:
    "Draw mutants, judge them, report."
    args = arguments(argv)
    if args.check:
        prepare()
        return check()
    root = args.root.resolve()
    project = read_project(root)
    notebooks = chosen_notebooks(project, args.modules)
    lottery = Lottery(project, candidates(notebooks), args.seed)
    mutants = lottery.draw(args.n)
    if lottery.lost:
        print(f'{lottery.lost} changes are not in the exported modules: run `make sync`')
    if args.list:
        return show(mutants)
    out = args.out.resolve() if args.out else None
    wish = dict(n=args.n, seed=args.seed, modules=args.modules, users=args.users)
    if out:
        resume(out, mutants, wish)
    prepare()
    with tempfile.TemporaryDirectory(prefix='mut', ignore_cleanup_errors=True) as tmp:
        if not all(m.verdict for m in mutants):
            os.chdir(root)
            preload(notebooks)
        trial = Trial(project, args, Path(tmp), lambda: save(out, mutants, wish))
        stopped = False
        try:
            trial.run(mutants)
        except KeyboardInterrupt:
            stopped = True
    print(report(mutants))
    save(out, mutants, wish)
    if stopped:
        sys.exit('interrupted; ' + ('the same command goes on' if out else '--out would keep this'))


if __name__ == '__main__':
    main()
