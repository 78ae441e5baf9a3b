"""Is the house in order? Where notebooks and modules lie, which rooms import which, no circles, no private name abroad.

    python tools/check_structure.py

- A notebook's folder and name are its module's: `nbs/models/00_sites.ipynb` is `steer_nb/models/sites.py`; two digits, no
  letters, no number twice in a folder.
- A room imports from the rooms before it in `ROOMS` and from itself, never from a later one; modules import in no circle.
- A name with an underscore stays in its module; nothing is looked up by a name made at run time.
- At most six modules lie at the root; the names of the package are the same for editors and at run time.
"""

import ast
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE = (
    'core',
    'params',
    'runs',
    'stats',
)  # modules at the root, in the order in which they may import
ROOMS = (
    *BASE,
    'plots',
    'models',
    'data',
    'methods',
    'evals',
    'experiments',
    'launch',
    'reports',
    'dev',
)
MOST_ROOT_MODULES = 6
WITH_NUMBER = re.compile(r'^(?:\d\d_)?([a-z][a-z0-9_]*)$')
NUMBERED = (
    'index',
    'run_exp',
    'report',
    'how_to_add',
    'originals',
    'audit',
)  # entry points have none
RUN_TIME_NAMES = {
    'globals': 'a dictionary of functions',
    'setattr': 'cached_property, or a dictionary',
}


def notebook_problems(root: Path) -> list[str]:
    "Notebooks whose place or name is not that of their module."
    bad, seen = [], {}
    for path in sorted(root.glob('nbs/**/*.ipynb')):
        if '.ipynb_checkpoints' in path.parts:
            continue
        name = path.relative_to(root).as_posix()
        matched = WITH_NUMBER.match(path.stem)
        if not matched:
            bad.append(f'{name}: a name is two digits, an underscore and the name of the module')
            continue
        number = path.stem[:2]
        if number.isdigit() and seen.setdefault((path.parent, number), path) != path:
            bad.append(f'{name}: the number {number} is taken by {seen[path.parent, number].name}')
        if not number.isdigit() and path.stem not in NUMBERED:
            bad.append(f'{name}: has no number for its place in the reading order')
        module = default_export(path)
        folder = path.parent.relative_to(root / 'nbs').parts
        if module and module != '.'.join([*folder, matched[1]]):
            bad.append(f'{name}: exports to {module}, not to {".".join([*folder, matched[1]])}')
    return bad


def default_export(path: Path) -> str | None:
    "The module a notebook writes, dotted, below the package."
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    text = '\n'.join(''.join(c['source']) for c in cells[:5])
    found = re.search(r'^#\|\s*default_exp\s+(\S+)', text, re.M)
    return found[1] if found else None


def modules_of(package: Path) -> dict[str, Path]:
    "Modules of the package by dotted name below it; the package itself is ''."
    found = {}
    for path in sorted(package.rglob('*.py')):
        parts = path.relative_to(package).with_suffix('').parts
        if parts[-1] == '_modidx':
            continue
        found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return found


def imports_of(module: str, path: Path, modules: dict[str, Path]) -> list[tuple[str, str]]:
    "(module, name) of every import from the package, those inside functions included."
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = module.split('.') if path.name == '__init__.py' else module.split('.')[:-1]
        if node.level:
            parts = [p for p in base if p][: len([p for p in base if p]) - (node.level - 1)]
        elif (node.module or '').split('.')[0] == 'steer_nb':
            parts = []
        else:
            continue
        rest = (node.module or '').removeprefix('steer_nb').strip('.')
        target = '.'.join([*parts, *([rest] if rest else [])])
        for alias in node.names:
            inner = f'{target}.{alias.name}'.strip('.')
            found.append((inner, '') if inner in modules else (target, alias.name))
    return found


def room_of(module: str) -> str:
    return module.split('.')[0]


def import_problems(imports: dict[str, list[tuple[str, str]]]) -> list[str]:
    "Imports against the direction of the rooms, and private names that leave their module."
    bad = []
    for module, found in imports.items():
        if not module:
            continue
        for target, name in found:
            if target and ROOMS.index(room_of(target)) > ROOMS.index(room_of(module)):
                bad.append(
                    f'{module} imports {target}: a room imports from earlier rooms only ({" < ".join(ROOMS)})'
                )
            if name.startswith('_') and not name.startswith('__') and target != module:
                bad.append(f'{module} imports {target}.{name}: a private name stays in its module')
    return bad


def circles(imports: dict[str, list[tuple[str, str]]]) -> list[str]:
    "Modules that import each other, directly or through others."
    graph = {m: {t for t, _ in found if t and t != m} for m, found in imports.items() if m}
    reach = {m: _reachable(m, graph) for m in graph}
    groups = {
        frozenset(b for b in reach[a] if a in reach.get(b, ())) for a in graph if a in reach[a]
    }
    return [f'circle of imports: {", ".join(sorted(g))}' for g in groups if not _is_config_pair(g)]


def _reachable(start: str, graph: dict[str, set]) -> set:
    found, todo = set(), [start]
    while todo:
        for target in graph.get(todo.pop(), ()):
            if target not in found:
                found.add(target)
                todo.append(target)
    return found


def _is_config_pair(group: frozenset) -> bool:
    "A configuration and its model class may know each other: transformers asks for that."
    return any(g.endswith('_config') for g in group) and len({room_of(g) for g in group}) == 1


def run_time_problems(modules: dict[str, Path]) -> list[str]:
    "Names that no editor can follow."
    bad = []
    for module, path in modules.items():
        if module.endswith('_config'):  # transformers gives attributes of a configuration aliases
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Subscript) and _called(node.value) == 'globals':
                bad.append(
                    f'{module}:{node.lineno}: globals()[...]; use {RUN_TIME_NAMES["globals"]}'
                )
            if (
                _called(node) == 'setattr'
                and isinstance(node.args[0], ast.Name)
                and node.args[0].id == 'self'
            ):
                bad.append(
                    f'{module}:{node.lineno}: setattr(self, ...); use {RUN_TIME_NAMES["setattr"]}'
                )
    return bad


def front_door_problems(package: Path) -> list[str]:
    "Names that editors see under TYPE_CHECKING and those that are found at run time are the same."
    tree = ast.parse((package / '__init__.py').read_text(encoding='utf-8'))
    seen, found = {}, {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            seen |= {alias.asname: node.module for alias in node.names if alias.asname}
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '_HOME':
            found = ast.literal_eval(node.value)
    odd = sorted(name for name in seen | found if seen.get(name) != found.get(name))
    return [
        f'steer_nb.{name}: TYPE_CHECKING says {seen.get(name)}, _HOME {found.get(name)}'
        for name in odd
    ]


def _called(node) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ''


def main():
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    modules = modules_of(root / 'steer_nb')
    at_root = [m for m in modules if m and '.' not in m and modules[m].name != '__init__.py']
    bad = notebook_problems(root)
    unknown = sorted({room_of(m) for m in modules if m} - set(ROOMS))
    bad += [
        f'{room}: no room of the house; place it in ROOMS of tools/check_structure.py'
        for room in unknown
    ]
    if len(at_root) > MOST_ROOT_MODULES:
        bad.append(
            f'{len(at_root)} modules at the root, at most {MOST_ROOT_MODULES}: {", ".join(at_root)}'
        )
    if not unknown:
        imports = {m: imports_of(m, p, modules) for m, p in modules.items()}
        bad += import_problems(imports) + circles(imports)
    bad += run_time_problems(modules) + front_door_problems(root / 'steer_nb')
    for line in bad:
        print(f'PROBLEM {line}')
    print(f'structure: {len(modules)} modules, {len(bad)} problems')
    sys.exit(bool(bad))


if __name__ == '__main__':
    main()
