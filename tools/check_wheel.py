"""Build a wheel, install it into a throwaway folder and use it from elsewhere, with the repository out of sight."""

import os, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROBE = """
import sys
from pathlib import Path
# the editable install of the checkout must not help
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
root, target = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
sys.path[:] = [p for p in sys.path if p and Path(p).resolve() not in (root, root/"nbs", root/"tools")]
import steer_nb
from steer_nb.core import data_path
from steer_nb.launch.work import run_notebook
texts = data_path("texts", "neutral.txt")
for f in (Path(steer_nb.__file__), texts, run_notebook()):
    if not f.resolve().is_relative_to(target): sys.exit(f"{f} lies outside the installed wheel, {target}")
print(f"steer_nb {steer_nb.__version__} imported, {len(texts.read_text(encoding='utf-8').splitlines())} lines read from {texts.name}")
"""


def sh(*args, cwd=ROOT, **env):
    args = [str(a) for a in args]
    r = subprocess.run(args, cwd=cwd, env=os.environ | env, capture_output=True, text=True)
    if r.returncode:
        sys.exit(f'{r.stdout}{r.stderr}\nwheel check failed at: {" ".join(args[:6])}')
    return r.stdout


def main():
    with tempfile.TemporaryDirectory(prefix='steer_nb_wheel_') as tmp:
        tmp = Path(tmp)
        src, out, target, away = tmp / 'src', tmp / 'out', tmp / 'installed', tmp / 'away'
        for d in (src, out, away):
            d.mkdir()
        # by way of a source archive, so that an incomplete one is noticed, and in a copy, so that nothing is left behind
        for f in ROOT.glob('*'):
            if f.is_file():
                shutil.copy2(f, src / f.name)
        for d in ('steer_nb', 'data'):
            shutil.copytree(ROOT / d, src / d, ignore=shutil.ignore_patterns('__pycache__', '.*'))
        (src / 'nbs').mkdir()
        shutil.copy2(ROOT / 'nbs' / 'run_exp.ipynb', src / 'nbs')
        sh(
            sys.executable,
            '-c',
            'import setuptools.build_meta as b, sys; b.build_sdist(sys.argv[1])',
            out,
            cwd=src,
        )
        (sdist,) = out.glob('*.tar.gz')
        pip = (sys.executable, '-m', 'pip', '--disable-pip-version-check')
        sh(*pip, 'wheel', sdist, '--no-deps', '--no-build-isolation', '-w', out)
        (wheel,) = out.glob('*.whl')
        sh(*pip, 'install', wheel, '--no-deps', '--target', target)
        print(f'{wheel.name}, {wheel.stat().st_size // 1024} KB')
        print(
            sh(
                sys.executable,
                '-c',
                PROBE,
                ROOT,
                target,
                cwd=away,
                PYTHONPATH=str(target),
                HF_HUB_OFFLINE='1',
            ).strip()
        )


if __name__ == '__main__':
    main()
