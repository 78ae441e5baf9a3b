"""Many small runs under fire: random kills of launchers, workers and kernels, two launchers on one plan, finished files
damaged in between, a full disk, a folder that cannot be written. In the end every run must be done once, its parts the
same as those of an undisturbed run, every damaged file found and named, and nothing left behind.

    python tools/soak.py [--runs 200] [--seed 0] [--minutes 60] [--keep]

As root on Linux the full disk and the read-only folder are real (a small tmpfs in a mount namespace of its own);
elsewhere a limit on the size of files and a folder without write permission stand in for them.
"""

import argparse, collections, json, os, random, re, resource, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SMALL = dict(
    task='symbols',
    actions=['moments'],
    depths=[1],
    max_samples=60,
    splits=[0.5, 0.2, 0.3],
    starts=[0],
)
MODELS = ['tiny', 'tiny/gemma2']


def own_mounts() -> bool:
    "Go on in a mount namespace of our own, where we may; it vanishes with us, whatever happens."
    if os.environ.get('STEER_SOAK') == 'mounts':
        return True
    if (
        os.geteuid()
        or not shutil.which('unshare')
        or subprocess.run(['unshare', '-m', 'true'], capture_output=True).returncode
    ):
        return False
    os.environ['STEER_SOAK'] = 'mounts'
    os.execvp('unshare', ['unshare', '-m', '--propagation', 'private', sys.executable, *sys.argv])


class Soak:
    "One soak: a plan, its launchers, and what was done to them."

    def __init__(self, runs: int, seed: int, minutes: float, mounts: bool, home: Path):
        self.n, self.rng, self.minutes, self.mounts, self.home = (
            runs,
            random.Random(seed),
            minutes,
            mounts,
            home,
        )
        self.did, self.refused, self.bad, self.began = collections.Counter(), [], [], time.time()
        self.launchers, self.again, self.seen, self.quarter = (
            [],
            collections.Counter(),
            set(),
            -1,
        )  # again: how often a run had to be done again, for the damage done to it

    def say(self, text: str) -> None:
        print(f'{time.time() - self.began:6.0f} s  {text}', flush=True)

    def wrong(self, text: str) -> None:
        self.bad.append(text)
        self.say(f'VIOLATION: {text}')

    # -- what is run

    def plan(self, home: Path, n: int):
        from steer_nb.launch.plan import plan

        return plan(
            'lirefs/embedded',
            MODELS,
            seeds=list(range((n + 1) // 2)),
            name='soak',
            home=home,
            **SMALL,
        )

    def calm(self, p) -> Path:
        "The same runs, in one process that nobody disturbs."
        home = self.home / 'calm'
        code = (
            'import json, sys; from steer_nb.experiments.jobs import run_job; from steer_nb.models.loading import keep_models; keep_models(2)\n'
            'for job, given in json.load(open(sys.argv[1])): run_job(job, **given)'
        )
        todo = self.home / 'todo.json'
        todo.write_text(json.dumps([(r['job'], r['given']) for r in p.runs.values()]))
        subprocess.run(
            [sys.executable, '-c', code, str(todo)],
            env=self.env() | dict(STEER_HOME=str(home)),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return home

    def env(self) -> dict:
        from steer_nb.launch.work import child_env

        return child_env(
            STEER_QUIET='1', HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1', TOKENIZERS_PARALLELISM='false'
        )

    def start(self, p, *args, **kw) -> subprocess.Popen:
        with open(self.home / 'launchers.log', 'ab') as log:
            launcher = subprocess.Popen(
                [
                    sys.executable,
                    '-m',
                    'steer_nb.launch.cli',
                    'run',
                    str(p.dir),
                    '--workers',
                    '1',
                    *args,
                ],
                env=self.env(),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **kw,
            )
        self.did['launchers started'] += 1
        return launcher

    # -- what is done to it

    def busy(self, p) -> list:
        "The last claim of each run that is at work."
        from steer_nb.launch.plan import claim_lines, states

        rows = [claim_lines(p.folder(k)) for k, s in states(p).items() if s['status'] == 'running']
        return [r[-1] for r in rows if r and r[-1]['event'] == 'kernel']

    def hit(self, p) -> None:
        "Kill something at random."
        what = self.rng.choice(
            ['worker', 'worker', 'kernel', 'launcher', 'launcher', 'both launchers']
        )
        work = self.busy(p)
        if what in ('worker', 'kernel') and not work:
            return
        if what in ('worker', 'kernel'):
            pids = [self.rng.choice(work)['pid' if what == 'worker' else 'kernel']]
        else:
            pids = [
                launcher.pid
                for launcher in (self.launchers if what == 'both launchers' else self.launchers[:1])
            ]
        for pid in pids:
            kill(pid)
        self.did[f'kills of {what}'] += 1

    def stop(self, p) -> None:
        "Kill every launcher, and wait until their workers and kernels have seen it."
        work = self.busy(p)
        for launcher in self.launchers:
            kill(launcher.pid)
            launcher.wait()
        self.launchers = []
        end = time.time() + 30
        while any(alive(x['pid']) or alive(x['kernel']) for x in work) and time.time() < end:
            time.sleep(0.2)
        if left := [x for x in work if alive(x['pid']) or alive(x['kernel'])]:
            self.wrong(f'worker {left[0]["pid"]} or its kernel outlived its launcher by 30 s')

    def damage(self, p) -> None:
        "Damage files of finished runs; each must be found and named, and deleting what is named must be the remedy."
        from steer_nb.core import SteerError, read_json
        from steer_nb.launch.plan import read_plan, result_of, states
        from steer_nb.runs import check_run

        done = [k for k, s in states(p).items() if s['status'] == 'done']
        for k in self.rng.sample(done, min(len(done), 3)):
            run = p.home / result_of(p.folder(k))['run']
            parts = [run / v['file'] for v in read_json(run / 'parts.json').values()]
            file = self.rng.choice(
                [
                    *parts,
                    *parts,
                    run / 'parts.json',
                    run / 'RUN.json',
                    p.folder(k) / 'result.json',
                    p.dir / 'plan.json',
                ]
            )
            whole, how = (
                file.read_bytes(),
                self.rng.choice(['cut', 'emptied', 'a bit', 'zeros', 'another file']),
            )
            if file.suffix == '.json' and how == 'a bit' and file not in parts:
                how = 'cut'  # JSON beside the parts has no checksum
            file.write_bytes(harm(whole, how, self.rng))
            self.did[f'damage: {file.name if file not in parts else "part"} {how}'] += 1
            said = check_run(run)
            if not said:
                try:
                    states(read_plan(p.dir))
                except SteerError as e:
                    said = [str(e)]
            if not any(str(file) in s for s in said):
                self.wrong(f'{file} ({how}) was not found: {said}')
            self.refused += said
            if file.name == 'plan.json':
                file.write_bytes(whole)
                continue
            file.unlink()
            (p.folder(k) / 'result.json').unlink(missing_ok=True)
            self.again[k] += 1

    def storm(self, p) -> None:
        "Run the plan while things are killed and damaged, for two thirds of the time; the rest is for what is left."
        from steer_nb.launch.plan import counts, states

        began = time.time()
        fire, end = began + 40 * self.minutes, began + 60 * self.minutes
        target, last = self.rng.randint(1, 2), time.time()
        while time.time() < end:
            n = counts(s := states(p))
            for k, v in s.items():
                if v['status'] == 'failed':
                    self.failed(p, k)
            done = n.get('done', 0)
            if done == len(p):
                break
            self.launchers = [launcher for launcher in self.launchers if launcher.poll() is None]
            while len(self.launchers) < 2:
                self.launchers.append(self.start(p, '--retry-failed'))
            if time.time() < fire and (done >= target or time.time() > last + 120):
                if done < target and done:
                    self.did['two minutes without a run done'] += 1
                time.sleep(self.rng.uniform(0, 2))
                if 4 * done // len(p) > self.quarter and done:
                    self.quarter = 4 * done // len(p)
                    self.stop(p)
                    self.damage(p)
                else:
                    self.hit(p)
                target, last = done + self.rng.randint(1, max(2, len(p) // 20)), time.time()
                self.say(f'{n}')
            time.sleep(0.3)
        if time.time() > end:
            self.stop(p)
        for launcher in self.launchers:
            launcher.wait(60)
        self.launchers = []
        self.did['runs'] = len(p)

    def failed(self, p, k) -> None:
        "A run may fail because its kernel was killed, or because too many processes died over it, and it must say so."
        from steer_nb.launch.plan import result_of

        r = result_of(p.folder(k))
        if r is None or r['status'] != 'failed' or (k, r.get('finished')) in self.seen:
            return
        self.seen.add((k, r.get('finished')))
        if r.get('kind') not in ('kernel died', 'lost') and 'is in use by' not in r['error']:
            self.wrong(f'run {k} failed: {r["error"][:300]}')
        self.refused.append(r['error'])

    # -- places that cannot be written

    def place(self, name: str, size: str) -> Path:
        home = self.home / name
        home.mkdir()
        if self.mounts:
            subprocess.run(
                ['mount', '-t', 'tmpfs', '-o', f'size={size},mode=0777', 'tmpfs', str(home)],
                check=True,
            )
        return home

    def full_disk(self, calm: Path) -> None:
        "A disk that fills up: refused with the cause, nothing half-written; with room again, it goes on."
        home = self.place('full', '6m')
        p = self.plan(home, 4)
        filler, kw = home / 'filler', {}
        if self.mounts:
            with open(filler, 'wb') as f:
                free = shutil.disk_usage(home).free - self.rng.choice([0, 8, 20, 60, 150]) * 1024
                f.write(bytes(max(0, free)))
        else:
            kw = dict(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)))
        self.refusal(
            p, 'full disk', ('No space left', 'File too large', 'size of a file is limited'), **kw
        )
        filler.unlink(missing_ok=True)
        self.recovers(p, calm, 'full disk')

    def read_only(self, calm: Path) -> None:
        "A folder that became read-only: refused with the cause."
        home = self.place('locked', '40m')
        p = self.plan(home, 4)
        if self.mounts:
            subprocess.run(['mount', '-o', 'remount,ro', str(home)], check=True)
        else:
            for d in (home, p.dir):
                d.chmod(0o555)
        self.refusal(p, 'read-only folder', ('Read-only file system', 'Permission denied'))
        if self.mounts:
            subprocess.run(['mount', '-o', 'remount,rw', str(home)], check=True)
        else:
            for d in (home, p.dir):
                d.chmod(0o755)
        self.recovers(p, calm, 'read-only folder')

    def refusal(self, p, what: str, causes: tuple, **kw) -> None:
        log = self.home / 'launchers.log'
        at = log.stat().st_size if log.exists() else 0
        launcher = self.start(p, **kw)
        try:
            rc = launcher.wait(240)
        except subprocess.TimeoutExpired:
            kill(launcher.pid)
            launcher.wait()
            rc = 'a hang'
        with open(log, errors='replace') as f:
            f.seek(at)
            said = f.read()
        self.did[what] += 1
        line = next((x.strip() for x in said.splitlines()[::-1] if any(c in x for c in causes)), '')
        if not rc or not isinstance(rc, int):
            self.wrong(f'{what}: the launcher ended with {rc}')
        if not line:
            self.wrong(f'{what}: no cause is named, only: {said[-500:]}')
        if any('Traceback' in x for x in said.splitlines() if not x.startswith(' ')):
            self.did[f'{what}: bare tracebacks in the launcher'] += 1
        self.refused.append(line)

    def recovers(self, p, calm: Path, what: str) -> None:
        launcher = self.start(p, '--retry-failed')
        try:
            launcher.wait(300)
        except subprocess.TimeoutExpired:
            kill(launcher.pid)
            launcher.wait()
            self.wrong(f'{what}: the plan did not end afterwards')
        self.compare(p, calm, what)

    # -- what must hold in the end

    def compare(self, p, calm: Path, what: str) -> None:
        "Every run done, once; its parts those of the undisturbed run; nothing left."
        from steer_nb.launch.plan import states

        now = states(p)
        if rest := [k for k, s in now.items() if s['status'] != 'done']:
            self.wrong(
                f'{what}: {len(rest)} of {len(p)} runs were not done in time, e.g. {rest[0]}: {now[rest[0]]["status"]} {now[rest[0]].get("note") or ""}'
            )
        for key, state in now.items():
            if state['status'] == 'done':
                self.compare_run(p, key, p.home / state['run'], calm / state['run'], what)
        if rest:
            return
        if len(found := {s['run'] for s in now.values()}) != len(p):
            self.wrong(f'{what}: {len(p)} runs, {len(found)} directories')
        if left := [f for f in p.home.rglob('.tmp-*')]:
            self.wrong(f'{what}: {len(left)} temporary files are left, e.g. {left[0]}')

    def compare_run(self, p, key: str, run: Path, want: Path, what: str) -> None:
        "One run, done once; its parts those of the undisturbed run."
        from steer_nb.core import read_json
        from steer_nb.launch.plan import claim_lines
        from steer_nb.runs import check_run

        for fault in check_run(run):
            self.wrong(f'{what}: {fault}')
        parts, undisturbed = read_json(run / 'parts.json'), read_json(want / 'parts.json')
        if set(parts) != set(undisturbed):
            self.wrong(
                f'{what}: {run} has parts {sorted(parts)}, undisturbed {sorted(undisturbed)}'
            )
            return
        for name in parts:
            self.compare_part(parts[name], run, undisturbed[name], want, what)
        lines = claim_lines(p.folder(key))
        times = sum(x['event'] == 'finished' and x.get('status') == 'done' for x in lines)
        most = 1 + self.again[key]
        if times > most:
            self.wrong(f'{what}: run {key} was done {times} times, {most} were asked for')

    def compare_part(self, part: dict, run: Path, other: dict, want: Path, what: str) -> None:
        "Equal byte by byte, or at least by value."
        from steer_nb.core import read_table

        if part['sha256'] == other['sha256']:
            self.did[f'{what}: parts equal byte by byte'] += 1
            return
        if part['kind'] == 'table':
            if read_table(run / part['file']).equals(read_table(want / other['file'])):
                self.did[f'{what}: tables equal by value'] += 1
                return
        self.wrong(f'{what}: {run}/{part["file"]} is not that of the undisturbed run')

    def go(self) -> int:
        try:
            p = self.plan(self.home / 'storm', self.n)
            self.say(f'{len(p)} runs, first undisturbed')
            calm = self.calm(p)
            self.say('now under fire')
            self.storm(p)
            self.compare(p, calm, 'storm')
            self.say('full disk')
            self.full_disk(calm)
            self.say('read-only folder')
            self.read_only(calm)
        finally:
            for launcher in self.launchers:
                kill(launcher.pid)
        return self.report()

    def report(self) -> int:
        causes = collections.Counter(
            re.sub(r'\b[0-9a-f]{12}\b|/\S*/|\d+', '…', x)[:170] for x in self.refused
        )
        print(
            '\nwhat was done'
            + (
                ' (real full disk and read-only mount)'
                if self.mounts
                else ' (limits stand in for the full disk and the read-only folder)'
            )
        )
        for k, n in sorted(self.did.items()):
            print(f'  {n:5}  {k}')
        print('refusals, by cause')
        for k, n in causes.most_common():
            print(f'  {n:5}  {k}')
        print(
            f'{len(self.bad)} violations in {time.time() - self.began:.0f} s'
            + ''.join(f'\n  {x}' for x in self.bad)
        )
        return int(bool(self.bad))


def harm(b: bytes, how: str, rng: random.Random) -> bytes:
    "Damaged content."
    if how == 'cut':
        return b[: rng.randrange(len(b))]
    if how == 'a bit':
        i = rng.randrange(len(b))
        return b[:i] + bytes([b[i] ^ 1 << rng.randrange(8)]) + b[i + 1 :]
    return dict(emptied=b'', zeros=bytes(len(b))).get(how, b'PK\x03\x04 something else')


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def alive(pid: int) -> bool:
    "Zombies do not count."
    try:
        return (
            Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
            if Path('/proc').is_dir()
            else os.kill(pid, 0) is None
        )
    except (FileNotFoundError, ProcessLookupError):
        return False


def main() -> None:
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument('--runs', type=int, default=200)
    ap.add_argument('--seed', type=int, default=0, help='of what is killed and damaged, and when')
    ap.add_argument(
        '--minutes',
        type=float,
        default=60,
        help='most minutes under fire; runs not done by then are a violation (default 60)',
    )
    ap.add_argument('--keep', action='store_true', help='keep the folder')
    a = ap.parse_args()
    mounts = own_mounts()
    os.environ.pop('IN_TEST', None)
    home = Path(tempfile.mkdtemp(prefix='steer_nb-soak-'))
    rc = 1
    try:
        rc = Soak(a.runs, a.seed, a.minutes, mounts, home).go()
    finally:
        if mounts:
            for name in ('full', 'locked'):
                subprocess.run(['umount', '-l', str(home / name)], capture_output=True)
        if a.keep or rc:
            print('kept:', home)
        else:
            shutil.rmtree(home, ignore_errors=True)
    sys.exit(rc)


if __name__ == '__main__':
    main()
