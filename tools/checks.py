"""Quick checks of what no test sees: the papermill tag, sizes, stored errors, what is skipped and why, pins against ranges.

python tools/checks.py
"""

import configparser, json, re, sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
MAX_KB = 600
MUST_HAVE_PARAMETERS = ('nbs/run_exp.ipynb', 'nbs/report.ipynb')
PARAMETER = re.compile(r'^[a-z]\w*\s*:\s*[\w\[\], .|]+=\s*\S.*#')  # name: type = default  # help
SKIP = re.compile(r'^\s*#\s*\|\s*(slow|gpu|eval:\s*false)\b', re.M)
DIRECTIVES = re.compile(r'^\s*#\s*\|.*\n?', re.M)


def _prose(source: str) -> str:
    "First line of text in a markdown cell that is no heading"
    lines = [line.strip('> ').strip() for line in source.splitlines()]
    return next(
        (line for line in lines if line and not line.startswith(('#', '---', '|', '```', '!'))), ''
    )


def _comment(source: str) -> str:
    found = re.search(r'#\s+(\S.*)', DIRECTIVES.sub('', source))
    return found[1] if found else ''


LOST_TAG = 'declares parameters but lost its tag `parameters`: papermill would ignore -p'
BURIED = 'calls nbdev_export among other lines: the tests skip such a cell, so give them one of their own'


def code_lines(source: str) -> list[str]:
    "Lines of a cell that are neither empty nor a comment"
    lines = DIRECTIVES.sub('', source).splitlines()
    return [line for line in lines if line.strip() and not line.startswith('#')]


def code_problems(cell: dict) -> list[str]:
    "What is wrong with a code cell"
    source, bad = ''.join(cell['source']), []
    lines = code_lines(source)
    if 'nbdev_export()' in source and len([n for n in lines if n != 'import nbdev']) > 1:
        bad.append(BURIED)
    declares = len(lines) > 1 and all(PARAMETER.match(line) for line in lines)
    if declares and 'parameters' not in cell['metadata'].get('tags', []):
        bad.append(LOST_TAG)
    for output in cell.get('outputs', []):
        if output.get('output_type') == 'error':
            bad.append(f'has a stored {output.get("ename")}: run it again')
    return bad


def skipped_cells(cells: list[dict]) -> list[tuple[int, str, str]]:
    "(number, flag, reason) of the cells that tests skip; the reason stands above the cell or in a comment"
    out, before = [], ''
    for i, cell in enumerate(cells):
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'code':
            why = _prose(before) or _comment(source)
            out += [(i, flag, why) for flag in SKIP.findall(source)]
        before = source if cell['cell_type'] == 'markdown' else ''
    return out


def skipped_whole(cells: list[dict]) -> str | None:
    "The opening sentence of a notebook that tests skip; empty if it has none, None if it is not skipped"
    heads = [''.join(c['source']) for c in cells[:2] if c['cell_type'] != 'code']
    heads += [''.join(c['source']) for c in cells[2:] if c['cell_type'] == 'raw']
    if not any(re.search(r'^skip_exec:\s*true', head, re.M | re.I) for head in heads):
        return None
    for cell in cells[:5]:
        said = _prose(''.join(cell['source'])) if cell['cell_type'] == 'markdown' else ''
        if said and not said.startswith('skip_exec'):
            return said
    return ''


def check_notebook(path: Path, root: Path) -> tuple[list[str], list[str]]:
    "Problems of one notebook, and what it skips, each as lines of text"
    name, raw = path.relative_to(root).as_posix(), path.read_bytes()
    notebook = json.loads(raw)
    cells, bad, skips = notebook['cells'], [], []
    if len(raw) > MAX_KB * 1024:
        bad.append(f'{name}: {len(raw) // 1024} KB, more than {MAX_KB}: store smaller outputs')
    kernel = notebook['metadata'].get('kernelspec', {}).get('name', 'python3')
    if kernel != 'python3':
        bad.append(f'{name}: kernel {kernel!r}; it must be python3')
    for i, cell in enumerate(cells):
        if cell['cell_type'] == 'code':
            bad += [f'{name}: cell {i} {problem}' for problem in code_problems(cell)]
    for i, flag, why in skipped_cells(cells):
        skips.append(f'{name} cell {i} ({flag}): {why}')
        if not why:
            bad.append(f'{name}: cell {i} is skipped ({flag}) without a word on why')
    whole = skipped_whole(cells)
    if whole is not None:
        skips.append(f'{name} (whole notebook): {whole}')
        if not whole:
            bad.append(f'{name}: skip_exec without an opening sentence on why')
    tagged = sum('parameters' in c['metadata'].get('tags', []) for c in cells)
    if name in MUST_HAVE_PARAMETERS and tagged != 1:
        bad.append(f'{name}: {tagged} cells tagged `parameters`; there must be one')
    if tagged > 1 and name not in MUST_HAVE_PARAMETERS:
        bad.append(f'{name}: {tagged} cells tagged `parameters`')
    return bad, skips


def check_pins(root: Path) -> list[str]:
    "Every requirement of settings.ini is pinned in constraints.txt, inside its range"
    parser = configparser.ConfigParser(delimiters=['='])
    parser.read(root / 'settings.ini', encoding='utf-8')
    cfg, norm = parser['DEFAULT'], lambda n: re.sub(r'[-_.]+', '-', n).lower()
    lines = [
        line.split('#')[0].strip() for line in (root / 'constraints.txt').read_text().splitlines()
    ]
    pins = {norm(n): v for n, v in (line.split('==') for line in lines if line)}
    bad = []
    for r in map(
        Requirement,
        ' '.join(cfg[k] for k in ('requirements', 'dev_requirements', 'docs_requirements')).split(),
    ):
        v = pins.get(norm(r.name))
        if v is None:
            bad.append(f'constraints.txt: no pin for {r.name}, which settings.ini requires')
        elif v not in r.specifier:
            bad.append(
                f'constraints.txt: {r.name}=={v} is outside the range {r.specifier} of settings.ini'
            )
    if cfg.get('allowed_cell_metadata_keys', '').strip() != 'tags':
        bad.append(
            "settings.ini: allowed_cell_metadata_keys must be tags, or nbdev_clean strips papermill's tag"
        )
    version, found = (
        cfg['version'],
        re.search(r'^version:\s*(\S+)', (root / 'CITATION.cff').read_text(), re.M),
    )
    if found and found[1] != version:
        bad.append(f'CITATION.cff: version {found[1]}, but settings.ini says {version}')
    if f'## {version}' not in (root / 'CHANGELOG.md').read_text():
        bad.append(f'CHANGELOG.md: no entry for {version}')
    return bad


def main():
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    nbs = [p for p in sorted(root.glob('nbs/**/*.ipynb')) if '.ipynb_checkpoints' not in p.parts]
    bad, skips = check_pins(root), []
    for n in MUST_HAVE_PARAMETERS:
        if not (root / n).exists():
            bad.append(f'{n} is missing')
    for p in nbs:
        b, s = check_notebook(p, root)
        bad, skips = bad + b, skips + s
    if skips:
        print('Skipped unless asked for:', *(f'  {s[:160]}' for s in skips), sep='\n')
    for b in bad:
        print(f'PROBLEM {b}')
    print(f'checks: {len(nbs)} notebooks, {len(bad)} problems')
    sys.exit(bool(bad))


if __name__ == '__main__':
    main()
