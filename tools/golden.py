"""Golden runs: does this commit make the same tables as another one?

Every job file at its reduced size, a sweep, a probe map, a patch grid, a transcoder training that is stopped and
resumed, think-to-talk on a model trained here and a looped generation are run in one process, on one thread.
All tables they make are kept, with a digest of each (values, names, order). Times, paths and versions do not count.

    python tools/golden.py run OUT [--parts 'job/pas/*' sweep ...] [--quick]    make the tables of this tree in OUT
    python tools/golden.py compare OLD NEW [--tolerance 1e-6]                    compare two such folders
    python tools/golden.py against COMMIT [--quick]                              run COMMIT in a worktree, this tree here, compare

Digits differ between processors and versions: compare only what was made on one machine in one environment. Each
commit runs its own copy of this script, so what a part calls may change; what it makes may not. Names that a commit
changes on purpose stand in `golden_names.json` beside this script (part/table or part/table/column: new name); an
intended change of values is told by name with --expect.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = Path(__file__).with_name('golden_names.json')
NOT_COMPARED = re.compile(
    r'(^|_)(seconds?|minutes?|hours?|wall|time|times|path|folder|file|run|version|commit|digest|sha256|host|peak_mb)($|_)'
)
QUICK_JOBS = (
    'pas/embedded',
    'pas/seeds-embedded',
    'lirefs/embedded',
    'lirefs/tiny-raven',
    'think_to_talk/embedded',
    'delta_transcoder/embedded',
    'delta_transcoder/embedded-family',
)


# ---- the parts: each gives tables by name ----


def run_job(job, root):
    """The tables, findings and names of charts of a job at reduced size."""
    from steer_nb.dev.reduced import run_reduced

    os.environ['STEER_HOME'] = str(root)
    outcome = run_reduced(job)
    made = {'outcome': as_table(dict(status=outcome['status'], changed=outcome['changed']))}
    if outcome['status'] == 'done':
        made |= run_tables(root / outcome['run'])
    elif outcome['status'] == 'failed':
        made['outcome']['note'] = outcome['note']
    return made


def run_tables(folder):
    """Everything a run directory holds: tables, tensors, JSON parts, its summary, and which charts there are."""
    import pandas as pd
    from safetensors.numpy import load_file

    made = {}
    for name, part in json.loads((folder / 'parts.json').read_text()).items():
        file = folder / part['file']
        if part['kind'] == 'table':
            made[name] = pd.read_parquet(file)
        elif part['kind'] == 'json':
            made[name] = as_table(dict(json=json.loads(file.read_text())))
        else:
            tensors = load_file(file) if b'BF16' not in file.read_bytes()[:4096] else {}
            made |= {f'{name}/{k}': flat(v) for k, v in tensors.items()}
    about = json.loads((folder / 'RUN.json').read_text())
    charts = sorted(p.stem for p in folder.glob('charts/*.json'))
    made['summary'] = as_table(
        dict(about.get('summary') or {}, charts=charts, params=about['params'])
    )
    return made


def flat(values):
    """An array as a table of one row per entry of its first axis."""
    import pandas as pd

    if not values.size or not values.ndim:
        return pd.DataFrame(values.reshape(-1))
    return pd.DataFrame(values.reshape(len(values), -1))


def as_table(values):
    """A table of one row per entry of a dictionary, its value written as JSON."""
    import pandas as pd

    return pd.DataFrame(
        [(k, json.dumps(v, sort_keys=True, default=str)) for k, v in values.items()],
        columns=['name', 'value'],
    )


def sweep_part(root):
    """Two vectors and a random one over two layers, on a decoder and on a looped model."""
    import pandas as pd
    import torch
    from steer_nb.data.choices import items_table
    from steer_nb.evals.scoring import questions
    from steer_nb.evals.sweeps import grid_table, make_cells, sweep
    from steer_nb.models.loading import load_model

    rows = [
        dict(
            question=f'Item {i}: which one?',
            choices=[f'the {a}', f'a {a} thing', 'none'][: 2 + i % 2],
            correct=i % 2,
        )
        for i, a in enumerate('abcdefgh')
    ]
    items, made = items_table(rows), {}
    for name in ('tiny/qwen3', 'tiny/raven'):
        lm, gen = load_model(name), torch.Generator().manual_seed(0)
        vectors = {
            (method, kind, 0): {layer: torch.randn(lm.d_model, generator=gen) for layer in (1, 2)}
            for method, kind in (('PASf', 'vector'), ('iPASa', 'vector'), ('any', 'random'))
        }
        cells, asked = make_cells(vectors, [0.5, 2.0]), questions(lm, items)
        for positions in ('last', 'all'):
            base, steered, _ = sweep(lm, asked, cells, vectors, positions=positions)
            key = f'{name.split("/")[1]}-{positions}'
            made[f'{key}-cells'] = grid_table(asked, cells, base, steered)
            made[f'{key}-logp'] = pd.DataFrame(steered.reshape(len(steered), -1))
    return made


def probe_part(root):
    """Every variable of a chain decoded at every depth and position of a trained model."""
    import pandas as pd
    from steer_nb.data.arithmetic.symbols import Corpus, symbol_items
    from steer_nb.experiments.think_to_talk.chains import place_chains
    from steer_nb.experiments.think_to_talk.decodability import decode_model, map_table
    from steer_nb.data.arithmetic.roles import Aligned
    from steer_nb.models.loading import load_model

    lm = load_model('twin/plain-1')
    items = pd.concat(
        [
            symbol_items(Corpus(), 3, 160, 'golden train'),
            symbol_items(Corpus(), 3, 40, 'golden test'),
        ],
        ignore_index=True,
    )
    chains = place_chains(lm, items, None)
    aligned = Aligned(chains.ids, chains.roles, chains.context)
    decoded = decode_model(
        lm,
        aligned,
        items,
        range(160),
        range(160, 200),
        ['embed', 'resid_post.1', 'resid_post.3'],
        permutations=4,
    )
    return dict(map=map_table(decoded))


def patch_part(root):
    """States of one problem written into the run on another, at every span and depth."""
    from steer_nb.data.arithmetic.pairs import edit_pairs
    from steer_nb.data.arithmetic.symbols import Corpus, symbol_items
    from steer_nb.methods.patching.grid import patch_grid, patch_table
    from steer_nb.experiments.think_to_talk.chains import place_pairs
    from steer_nb.models.loading import load_model

    made = {}
    for name in ('plain-1', 'looped-1'):
        lm = load_model(f'twin/{name}')
        pairs = place_pairs(lm, edit_pairs(symbol_items(Corpus(), 3, 12, 'golden pairs'), 'B'))
        grid = patch_grid(lm, pairs)
        made |= {f'{name}-grid': grid, f'{name}-table': patch_table(grid)}
    return made


def transcoder_part(root):
    """Four kinds of transcoder trained side by side, stopped after 37 of 60 steps and resumed."""
    import pandas as pd
    from steer_nb.methods.dictionaries.calibration import fit_table
    from steer_nb.methods.dictionaries.buffer import ActivationBuffer, mlp_source
    from steer_nb.methods.dictionaries.trainer import Trainer, setting, train, trained
    from steer_nb.models.loading import load_model

    lm = load_model('tiny', backend='hooks')
    letters = 'ABCDEFGH'
    texts = [
        ' '.join(letters[(i * 7 + j * j * (i % 3 + 1)) % 8] for j in range(12 + i % 9))
        for i in range(200)
    ]
    ids, source = lm.tokenizer(texts)['input_ids'], mlp_source(lm, 1)
    small = dict(features=64, lr=3e-3, warmup=10, dead_after=2000)
    settings = {
        k: setting(k, source.name, **small, **({} if 'relu' in k else dict(k=8)))
        for k in ('topk', 'batchtopk', 'relu', 'jumprelu', 'skip')
    }
    buffer = lambda: ActivationBuffer(lm, ids, [source], rows=1000, batch=128, repeats=2)  # noqa: E731
    trainer = lambda: Trainer(buffer(), settings, steps=60)  # noqa: E731
    train(trainer(), until=37, folder=root, every=20)
    resumed = train(trainer(), folder=root, every=20)
    made = trained(resumed)
    fits = fit_table({n: (made[n], settings[n].source) for n in made}, buffer().chunk(1))
    weights = {f'weights/{n}': pd.DataFrame(made[n].W_dec.detach().float().numpy()) for n in made}
    return dict(fits=fits, steps=resumed.table, **weights)


def think_to_talk_part(root):
    """Think-to-talk on a model trained here: accuracy, probes, patches."""
    from steer_nb.experiments.think_to_talk import experiment as think_to_talk

    os.environ['STEER_HOME'] = str(root)
    run = think_to_talk.run(
        model='twin/plain-1',
        actions=['accuracy', 'probes', 'patching', 'mixed'],
        n_train=200,
        n_test=40,
        n_permutations=4,
        n_pairs=12,
    )
    return run_tables(run.dir)


def looped_part(root):
    """States, logits and a greedy generation of a depth-recurrent model, plain and steered, at two numbers of steps."""
    import pandas as pd
    import torch
    from steer_nb.models.edits import edit
    from steer_nb.models.loading import load_model
    from steer_nb.models.readout import unembed
    from steer_nb.models.lm import at_steps
    from steer_nb.models.tracing import capture, generate

    lm, made = load_model('tiny/raven'), {}
    prompts = ['The first loop', 'A second, longer prompt of the loop']
    for steps in (2, 4):
        at, gen = at_steps(lm, steps), torch.Generator().manual_seed(0)
        push = [edit('resid_post.3', torch.randn(lm.d_model, generator=gen), 2.0)]
        for kind, edits in dict(plain=[], steered=push).items():
            states = capture(at, prompts, 'final_norm', 'last', edits=edits)['final_norm']
            made[f'{kind}-{steps}-logits'] = pd.DataFrame(unembed(at, states).detach().numpy())
            made[f'{kind}-{steps}-text'] = generate(at, prompts, edits, 12)
        states = capture(at, prompts, ['resid_post.2', 'resid_post.5', 'final_norm'], 'last')
        made |= {
            f'states-{steps}/{site}': pd.DataFrame(h.float().numpy()) for site, h in states.items()
        }
    return made


PARTS = dict(
    sweep=sweep_part,
    probes=probe_part,
    patches=patch_part,
    transcoders=transcoder_part,
    think_to_talk=think_to_talk_part,
    looped=looped_part,
)


# ---- running, keeping ----


def wanted(patterns, quick):
    """Names of the parts to run, extra parts first."""
    from steer_nb.experiments.jobs import job_names

    jobs = QUICK_JOBS if quick else job_names()
    names = [*PARTS, *(f'job/{j}' for j in jobs)]
    return [n for n in names if any(fnmatch.fnmatch(n, p) for p in patterns)] if patterns else names


def digest(table):
    """16 hex digits over names, order and values of the columns that count."""
    kept = table[[c for c in table.columns if not NOT_COMPARED.search(str(c))]]
    text = kept.to_csv(index=False, float_format='%.17g')
    return hashlib.sha256(
        f'{list(map(str, kept.columns))} {len(kept)}\n{text}'.encode()
    ).hexdigest()[:16]


def keep_table(table, file):
    """Write a table so that it can be compared by value: one column of text or numbers each."""
    out = table.copy().reset_index(drop=True)
    out.columns = [str(c) for c in out.columns]
    for column in out:
        if out[column].dtype == object or str(out[column].dtype) in ('category', 'str', 'string'):
            out[column] = out[column].map(lambda v: json.dumps(v, default=str))
    file.parent.mkdir(parents=True, exist_ok=True)
    out.to_parquet(file)


def run(out, patterns, quick):
    """Run the parts of this tree and keep their tables with digests."""
    import torch

    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in wanted(patterns, quick):
        began = time.time()
        with tempfile.TemporaryDirectory(prefix='golden-') as scratch:
            part = PARTS[name] if name in PARTS else None
            try:
                tables = (
                    part(Path(scratch))
                    if part
                    else run_job(name.removeprefix('job/'), Path(scratch))
                )
            except Exception as e:  # told in the comparison, as the part's only table
                tables = dict(error=as_table(dict(error=f'{type(e).__name__}: {e}')))
        for key, table in tables.items():
            keep_table(table, out / name / f'{key}.parquet')
        found[name] = {key: digest(table) for key, table in tables.items()}
        print(
            f'{time.time() - began:7.1f} s  {len(tables):3} tables  {name}'
            + '  ERROR' * ('error' in tables),
            flush=True,
        )
    (out / 'digests.json').write_text(json.dumps(found, indent=1))


# ---- comparing ----


def renamed(path):
    """A name of the old tree as the new one has it."""
    names = json.loads(NAMES.read_text()) if NAMES.exists() else {}
    for pattern, new in names.items():
        if fnmatch.fnmatch(path, pattern):
            return new if '/' not in new else path.rsplit('/', 1)[0] + '/' + new.rsplit('/', 1)[1]
    return path.rsplit('/', 1)[-1]


def column_difference(old, new, tolerance):
    """What differs between two columns, in words; empty if nothing does."""
    import numpy as np
    import pandas as pd

    if pd.api.types.is_numeric_dtype(old) and pd.api.types.is_numeric_dtype(new):
        a, b = old.to_numpy(float, na_value=np.nan), new.to_numpy(float, na_value=np.nan)
        same = np.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        if same.all():
            return ''
        return f'{(~same).sum()} of {len(a)} values, by up to {np.nanmax(np.abs(a - b)):.3g}'
    a, b = old.astype(str), new.astype(str)
    differ = (a != b).to_numpy() & [
        not close_text(x, y, tolerance) for x, y in zip(a, b, strict=True)
    ]
    if not differ.any():
        return ''
    first = int(differ.argmax())
    return f'{differ.sum()} of {len(a)} values, first in row {first}: {a.iloc[first][:300]} -> {b.iloc[first][:300]}'


NUMBER = re.compile(r'-?\d+\.\d+(?:e[+-]?\d+)?|-?\d+e[+-]?\d+')


def close_text(a, b, tolerance):
    """Are two texts equal but for numbers that agree within the tolerance?"""
    if NUMBER.sub('#', a) != NUMBER.sub('#', b):
        return False
    pairs = zip(NUMBER.findall(a), NUMBER.findall(b), strict=True)
    return all(abs(float(x) - float(y)) <= tolerance * max(1.0, abs(float(x))) for x, y in pairs)


def table_differences(name, old, new, tolerance):
    """One sentence for each difference between two tables."""
    old = old.rename(columns={c: renamed(f'{name}/{c}') for c in old.columns})
    drop = [c for c in {*old.columns, *new.columns} if NOT_COMPARED.search(c)]
    old, new = old.drop(columns=drop, errors='ignore'), new.drop(columns=drop, errors='ignore')
    if list(old.columns) != list(new.columns):
        return [f'columns {list(old.columns)} -> {list(new.columns)}']
    if len(old) != len(new):
        return [f'{len(old)} rows -> {len(new)}']
    said = {c: column_difference(old[c], new[c], tolerance) for c in old.columns}
    return [f'{c}: {text}' for c, text in said.items() if text]


def compare(old_dir, new_dir, tolerance, expect=()):
    """Print every difference; how many tables differ that were not expected to."""
    import pandas as pd

    old, new = (json.loads((d / 'digests.json').read_text()) for d in (old_dir, new_dir))
    equal, close, bad = 0, 0, []
    for part in sorted(old.keys() | new.keys()):
        a, b = old.get(part), new.get(part)
        if a is None or b is None:
            bad.append(f'{part}: only in the {"new" if a is None else "old"} tree')
            continue
        a = {renamed(f'{part}/{t}') if '/' not in t else t: t for t in a}
        for t in sorted(a.keys() | b.keys()):
            if t not in a or t not in b:
                bad.append(f'{part}/{t}: only in the {"new" if t not in a else "old"} tree')
            elif old[part][a[t]] == b[t]:
                equal += 1
            else:
                tables = (
                    pd.read_parquet(old_dir / part / f'{a[t]}.parquet'),
                    pd.read_parquet(new_dir / part / f'{t}.parquet'),
                )
                said = table_differences(f'{part}/{t}', *tables, tolerance)
                close += not said
                bad += [f'{part}/{t}: {s}' for s in said]
    known = [b for b in bad if any(fnmatch.fnmatch(b.split(':')[0], e) for e in expect)]
    for line in bad:
        print('EXPECTED' if line in known else 'DIFFERS', line)
    errors = [p for p in new if 'error' in new[p]]
    for part in errors:
        print('ERROR', part, pd.read_parquet(new_dir / part / 'error.parquet').value.iloc[0][:400])
    failed = len(bad) - len(known) + len(errors)
    print(
        f'golden: {equal} tables equal, {close} within {tolerance:g}, {len(known)} differ as expected, {failed} differences or errors'
    )
    return failed


# ---- against a commit ----


def environment():
    """What digits depend on besides the code: processor, Python, packages."""
    freeze = subprocess.run(
        [sys.executable, '-m', 'pip', 'list', '--format=freeze'], capture_output=True, text=True
    ).stdout
    kept = [line for line in freeze.splitlines() if not line.startswith('steer_nb')]
    cpu = Path('/proc/cpuinfo').read_text() if Path('/proc/cpuinfo').exists() else ''
    model = ''.join(line for line in cpu.splitlines() if line.startswith('model name'))
    return hashlib.sha256(f'{sys.version} {model} {kept}'.encode()).hexdigest()[:8]


def run_tree(tree, out, patterns, quick):
    """Run a tree's own copy of this script in a process of its own."""
    script = tree / 'tools' / 'golden.py'
    if not script.is_file():
        sys.exit(f'{tree} has no tools/golden.py: choose a later commit')
    env = os.environ | dict(
        PYTHONPATH=str(tree),
        HF_HUB_OFFLINE='1',
        STEER_QUIET='1',
        OMP_NUM_THREADS='1',
        MKL_NUM_THREADS='1',
    )
    env.pop('IN_TEST', None)
    args = [sys.executable, str(script), 'run', str(out), *(['--quick'] if quick else [])]
    args += ['--parts', *patterns] if patterns else []
    subprocess.run(args, cwd=tree, env=env, check=True)


def against(commit, patterns, quick, tolerance, expect):
    """Run a commit in a worktree (once: its tables are kept in build/golden) and this tree, and compare."""
    sha = subprocess.run(
        ['git', 'rev-parse', '--verify', commit + '^{commit}'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    kind = (
        hashlib.sha256(repr(sorted(patterns)).encode()).hexdigest()[:6]
        if patterns
        else 'quick'
        if quick
        else 'all'
    )
    kept = ROOT / 'build' / 'golden' / f'{sha[:12]}-{kind}-{environment()}'
    with tempfile.TemporaryDirectory(prefix='golden-') as tmp:
        if not (kept / 'digests.json').exists():
            tree = Path(tmp) / 'tree'
            subprocess.run(
                ['git', 'worktree', 'add', '--detach', str(tree), sha],
                cwd=ROOT,
                check=True,
                capture_output=True,
            )
            try:
                run_tree(tree, kept, patterns, quick)
            finally:
                subprocess.run(
                    ['git', 'worktree', 'remove', '--force', str(tree)], cwd=ROOT, check=False
                )
        new = ROOT / 'build' / 'golden' / 'here'
        shutil.rmtree(new, ignore_errors=True)
        run_tree(ROOT, new, patterns, quick)
    return compare(kept, new, tolerance, expect)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('what', choices=['run', 'compare', 'against'])
    parser.add_argument('where', nargs='+', help='OUT; OLD NEW; COMMIT')
    parser.add_argument(
        '--parts', nargs='*', default=[], help="names or patterns, e.g. sweep 'job/pas/*'"
    )
    parser.add_argument('--quick', action='store_true', help='a subset of at most five minutes')
    parser.add_argument('--tolerance', type=float, default=1e-6)
    parser.add_argument(
        '--expect', nargs='*', default=[], help='part/table patterns that may differ'
    )
    args = parser.parse_args()
    if args.what == 'run':
        run(Path(args.where[0]), args.parts, args.quick)
    elif args.what == 'compare':
        sys.exit(
            bool(compare(Path(args.where[0]), Path(args.where[1]), args.tolerance, args.expect))
        )
    else:
        sys.exit(bool(against(args.where[0], args.parts, args.quick, args.tolerance, args.expect)))


if __name__ == '__main__':
    main()
