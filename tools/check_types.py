"""The type checker as a ratchet: no module may have more errors than `types_allowed.json` says, and fewer are written down.

    python tools/check_types.py             compare; exit 1 if a module got worse
    python tools/check_types.py --update    write down what is now (refused where it is more than before)
    python tools/check_types.py --show evals.sweeps    the errors of one module

basedpyright (pyright with its own Node.js, from the package index) in its basic mode; see pyrightconfig.json.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = Path(__file__).with_name('types_allowed.json')


def errors() -> list[tuple[str, int, str]]:
    "(module, line, message) of every error."
    command = [sys.executable, '-m', 'basedpyright', '--outputjson', '-p', str(ROOT)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)['generalDiagnostics']
    except (json.JSONDecodeError, KeyError):
        sys.exit(
            f'{done.stdout[-2000:]}{done.stderr[-2000:]}\ntypes: basedpyright did not run, see above'
        )
    out = []
    for one in found:
        if one['severity'] == 'error':
            path = Path(one['file']).relative_to(ROOT / 'steer_nb').with_suffix('')
            out.append(('.'.join(path.parts), one['range']['start']['line'] + 1, one['message']))
    return out


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--update', action='store_true', help='write down fewer errors')
    parser.add_argument(
        '--force',
        action='store_true',
        help='with --update: also more (a module moved, a new version)',
    )
    parser.add_argument('--show', help='a module whose errors to print')
    args = parser.parse_args()
    found = errors()
    if args.show:
        for module, line, message in found:
            if module == args.show:
                print(f'{module}:{line}: {message}')
        return
    now = dict(sorted(Counter(module for module, _, _ in found).items()))
    allowed = json.loads(ALLOWED.read_text()) if ALLOWED.is_file() else {}
    worse = {m: n for m, n in now.items() if n > allowed.get(m, 0)}
    better = sum(n - now.get(m, 0) for m, n in allowed.items() if n > now.get(m, 0))
    if args.update and (args.force or not worse):
        ALLOWED.write_text(json.dumps(now, indent=1) + '\n')
        print(f'types: {len(found)} errors written down')
        return
    for module, n in worse.items():
        print(
            f'PROBLEM {module}: {n} type errors, {allowed.get(module, 0)} are allowed: make types SHOW={module}'
        )
    if better and not worse:
        print(f'note: {better} errors fewer than allowed: make types UPDATE=1 writes that down')
    print(f'types: {len(found)} errors, {len(worse)} modules got worse')
    sys.exit(bool(worse))


if __name__ == '__main__':
    main()
