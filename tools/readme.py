"""README.md from nbs/index.ipynb, by nbconvert alone (no quarto). Outputs are the ones stored in the notebook.

python tools/readme.py            write README.md and README_files/
python tools/readme.py --check    only say whether they are up to date
"""

import argparse, os, re, sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
DIRECTIVE = re.compile(r'^\s*#\s*\|.*\n?', re.M)
HIDDEN = re.compile(r'^\s*#\s*\|\s*(hide|default_exp|include:\s*false)\b', re.M)
LINK = re.compile(r'(\]\(|(?:src|href)=")([^)#"\s]+)')


def _relink(text: str, nbs: Path, root: Path) -> str:
    "Links relative to nbs/ made relative to the root; a link to nothing is an error"

    def sub(m):
        start, target = m.groups()
        if re.match(r'[a-z][a-z+.-]*:', target) or target.startswith(('/', 'attachment:')):
            return m[0]
        path = nbs / target
        if not path.exists():
            raise SystemExit(f'nbs/index.ipynb links to {target}, which does not exist')
        return (
            start + Path(os.path.relpath(path, root)).as_posix()
        )  # by name: a folder may be a link

    return LINK.sub(sub, text)


def readme_files(root: Path = ROOT) -> dict[str, bytes]:
    "README.md and its pictures, as a dict of relative path to content"
    nbs = root / 'nbs'
    nb = nbformat.read(nbs / 'index.ipynb', as_version=4)
    nb.metadata.language_info = {
        'name': 'python'
    }  # nbdev_clean strips it; without it fences lose `python`
    nb.cells = [c for c in nb.cells if c.cell_type != 'raw' and not HIDDEN.search(c.source)]
    for c in nb.cells:
        if c.cell_type == 'code':
            c.source = DIRECTIVE.sub('', c.source).strip()
        else:
            c.source = _relink(c.source, nbs, root)
    nb.cells = [c for c in nb.cells if c.source.strip() or c.get('outputs')]
    text, resources = MarkdownExporter().from_notebook_node(
        nb, resources=dict(output_files_dir='README_files', unique_key='README')
    )
    text = re.sub(
        r'<style scoped>.*?</style>\n?', '', text, flags=re.S
    )  # GitHub shows no styles of ours
    text = text.replace('![png](', '![chart](')
    text = (
        re.sub(r'\n{3,}', '\n\n', '\n'.join(line.rstrip() for line in text.splitlines())).strip()
        + '\n'
    )
    files = {'README.md': text.encode()}
    return files | {Path(k).as_posix(): v for k, v in resources.get('outputs', {}).items()}


def current_files(root: Path = ROOT) -> dict[str, bytes]:
    "The same files as they lie on disk"
    paths = [root / 'README.md', *sorted((root / 'README_files').glob('*'))]
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in paths if p.is_file()}


def main():
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument(
        '--check', action='store_true', help='write nothing; exit 1 if something would change'
    )
    check = ap.parse_args().check
    new, old = readme_files(), current_files()
    changed = sorted(k for k in new.keys() | old.keys() if new.get(k) != old.get(k))
    for k in changed:
        print(f'{"out of date" if check else "removed" if k not in new else "written"}: {k}')
        if check:
            continue
        if k not in new:
            (ROOT / k).unlink()
        else:
            (ROOT / k).parent.mkdir(exist_ok=True)
            (ROOT / k).write_bytes(new[k])
    if not changed:
        print('README.md is up to date')
    sys.exit(bool(check and changed))


if __name__ == '__main__':
    main()
