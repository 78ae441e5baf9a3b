"""Every notebook through nbdev_test, ending with a line `N passed, N failed` (plus `, N skipped`: notebooks marked skip_exec).

python tools/run_tests.py [--path nbs/00_core.ipynb] [--flags slow] [--n_workers 2]
"""

import argparse, os, sys, time, traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main():
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument('--path', help='a notebook, folder or glob (default: all of nbs/)')
    ap.add_argument('--flags', default='', help='run cells with these flags too: slow, gpu')
    ap.add_argument(
        '--n_workers',
        type=int,
        default=2,
        help='processes, one thread each on two cores (default 2; 0: in this process)',
    )
    args = ap.parse_args()

    os.chdir(ROOT)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    threads = str(max(1, cores // max(1, args.n_workers)))
    for k in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        os.environ.setdefault(k, threads)
    for k, v in dict(
        HF_HUB_OFFLINE='1', TOKENIZERS_PARALLELISM='false', PYTHONUNBUFFERED='1'
    ).items():
        os.environ[k] = v

    import nbdev.test as T
    from fastcore.parallel import parallel

    files, results = [], []

    def recorded(
        f, items, **kw
    ):  # nbdev_test says only which notebooks failed; we also count and time
        files.extend(items)
        results.extend(parallel(f, items, **kw))
        return results

    T.parallel = recorded

    start, crashed = time.time(), False
    try:
        T.nbdev_test.__wrapped__(
            path=args.path, flags=args.flags, n_workers=args.n_workers, do_print=True
        )
    except SystemExit as e:
        crashed = bool(e.code) and all(ok for ok, _ in results)
    except Exception:  # a worker that died takes the whole pool with it
        traceback.print_exc()
        crashed = True

    def rel(f):
        return os.path.relpath(f, ROOT)

    rows = sorted(((t, f) for f, (ok, t) in zip(files, results, strict=True)), reverse=True)
    if rows:
        print(f'\nslowest of {len(rows)} notebooks (total {time.time() - start:.0f} s):')
    for t, f in [r for r in rows if r[0] > 0][:8]:
        print(f'  {t:6.1f} s  {rel(f)}')
    failed = [f for f, (ok, _) in zip(files, results, strict=True) if not ok]
    for f in failed:
        print(f'FAILED {rel(f)}   (again: make test NB={rel(f)})')
    skipped = sum(t == 0 for ok, t in results if ok)
    passed = len(results) - len(failed) - skipped
    n_failed = (
        len(failed)
        + (len(files) - len(results))
        + (1 if crashed and len(files) == len(results) else 0)
    )
    if not files:
        print('no notebook matched')
    print(
        f'{passed} passed, {n_failed} failed' + (f', {skipped} skipped' if skipped else ''),
        flush=True,
    )
    sys.exit(bool(n_failed or not passed))


if __name__ == '__main__':
    main()
