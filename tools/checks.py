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
    lines = [l.strip('> ').strip() for l in source.splitlines()]
    return next((l for l in lines if l and not l.startswith(('#', '---', '|', '```', '!'))), '')


def _comment(source: str) -> str:
    found = re.search(r'#\s+(\S.*)', DIRECTIVES.sub('', source))
    return found[1] if found else ''


def check_notebook(path: Path, root: Path) -> tuple[list[str], list[str]]:
    "Problems of one notebook, and what it skips, each as lines of text"
    name, raw = path.relative_to(root).as_posix(), path.read_bytes()
    nb = json.loads(raw)
    bad, skips = [], []
    if len(raw) > MAX_KB * 1024:
        bad.append(f'{name}: {len(raw) // 1024} KB, more than {MAX_KB}: store smaller outputs')
    if nb['metadata'].get('kernelspec', {}).get('name', 'python3') != 'python3':
        bad.append(f'{name}: kernel {nb["metadata"]["kernelspec"]["name"]!r}; it must be python3')
    tagged, before = 0, None
    for i, c in enumerate(nb['cells']):
        src = ''.join(c['source'])
        if c['cell_type'] == 'code':
            tags = c['metadata'].get('tags', [])
            lines = [
                l
                for l in DIRECTIVES.sub('', src).splitlines()
                if l.strip() and not l.startswith('#')
            ]
            looks = len(lines) > 1 and all(PARAMETER.match(l) for l in lines)
            tagged += 'parameters' in tags
            if 'nbdev_export()' in src and len([l for l in lines if l != 'import nbdev']) > 1:
                bad.append(
                    f'{name}: cell {i} calls nbdev_export among other lines: the tests skip such a cell, so give them one of their own'
                )
            if looks and 'parameters' not in tags:
                bad.append(
                    f'{name}: cell {i} declares parameters but lost its tag `parameters`: papermill would ignore -p'
                )
            for o in c.get('outputs', []):
                if o.get('output_type') == 'error':
                    bad.append(f'{name}: cell {i} has a stored {o.get("ename")}: run it again')
            for flag in SKIP.findall(src):
                why = _prose(before) if before is not None else ''
                why = why or _comment(src)
                skips.append(f'{name} cell {i} ({flag}): {why}')
                if not why:
                    bad.append(
                        f'{name}: cell {i} is skipped ({flag}) without a word on why, above it or in a comment'
                    )
        elif c['cell_type'] == 'raw' or i < 2:
            if re.search(r'^skip_exec:\s*true', src, re.M | re.I):
                why = next(
                    (
                        p
                        for d in nb['cells'][:5]
                        if d['cell_type'] == 'markdown'
                        and (p := _prose(''.join(d['source'])))
                        and not p.startswith('skip_exec')
                    ),
                    '',
                )
                skips.append(f'{name} (whole notebook): {why}')
                if not why:
                    bad.append(f'{name}: skip_exec without an opening sentence on why')
        before = src if c['cell_type'] == 'markdown' else None
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
    lines = [l.split('#')[0].strip() for l in (root / 'constraints.txt').read_text().splitlines()]
    pins = {norm(n): v for n, v in (l.split('==') for l in lines if l)}
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
