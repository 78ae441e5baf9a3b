"""Opens a tutorial in JupyterLab in a real browser, runs all of it, and looks: no errors, and its charts are drawn.

    python tools/check_lab.py [NOTEBOOK] [--picture FILE]     nbs/tutorials/00_five_minutes.ipynb by default

A copy of the notebook is run, without its stored outputs. Needs Chromium (Debian: apt-get install chromium) and playwright, which drives it;
where one is missing the check says so and is skipped.
"""

import argparse, os, secrets, shutil, socket, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')

# What the page shows. JupyterLab draws only the cells near the window, so cells are walked through and their charts looked at one by one.
CELLS = """() => {
  const panel = [...document.querySelectorAll('.jp-NotebookPanel')].find(p => p.offsetParent)
  return panel ? panel.querySelectorAll('.jp-Cell').length : 0
}"""
STATE = "() => (document.querySelector('#jp-main-statusbar')?.innerText.match(/\\| (\\w+)/) ?? ['', ''])[1].toLowerCase()"  # as the status bar says it
CHARTS = """() => [...document.querySelectorAll('.jp-NotebookPanel .jp-OutputArea-output img, .jp-NotebookPanel .jp-OutputArea-output canvas, .jp-NotebookPanel .jp-OutputArea-output svg')]
  .filter(e => e.closest('.vega-embed, .jp-RenderedVegaCommon5, .jp-RenderedImage') && !e.closest('summary, .vega-actions'))
  .map(e => { const b = e.getBoundingClientRect(); return [e.tagName.toLowerCase(), e.naturalWidth ?? b.width, Math.round(b.width), Math.round(b.height)] })"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def start_lab(folder: Path, token: str, port: int) -> subprocess.Popen:
    "A JupyterLab on `folder`, with settings of its own."
    quiet = (
        folder
        / '.settings'
        / '@jupyterlab'
        / 'apputils-extension'
        / 'notification.jupyterlab-settings'
    )
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false"}')
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}
    env |= dict(
        JUPYTER_CONFIG_DIR=str(folder / '.config'),
        JUPYTER_RUNTIME_DIR=str(folder / '.runtime'),
        JUPYTERLAB_WORKSPACES_DIR=str(folder / '.workspaces'),
        JUPYTERLAB_SETTINGS_DIR=str(folder / '.settings'),
        PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]),
    )
    command = [
        sys.executable,
        '-m',
        'jupyterlab',
        '--no-browser',
        f'--port={port}',
        '--ServerApp.port_retries=0',
        f'--IdentityProvider.token={token}',
        f'--ServerApp.root_dir={folder}',
        '--ServerApp.ip=127.0.0.1',
        '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate',
        *(['--allow-root'] if os.geteuid() == 0 else []),
    ]
    return subprocess.Popen(
        command,
        env=env,
        stdout=open(folder / 'lab.log', 'w'),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_for(ask, seconds: float, what: str, every: float = 1.0):
    "The first true answer of `ask`; an error after so many seconds."
    end = time.time() + seconds
    while time.time() < end:
        if found := ask():
            return found
        time.sleep(every)
    raise TimeoutError(f'{what} did not happen within {seconds:.0f} s')


def _answers(url: str, server: subprocess.Popen) -> bool:
    if server.poll() is not None:
        raise RuntimeError(f'JupyterLab ended with exit code {server.returncode}')
    try:
        return urllib.request.urlopen(url, timeout=10).status == 200
    except OSError:
        return False


def run_all(page, seconds: float):
    "Run all cells from the menu, and wait until the kernel has nothing left to do."
    page.get_by_role('menuitem', name='Run', exact=True).click()
    page.locator(
        '.lm-Menu-item[data-command="runmenu:run-all"], .lm-Menu-item:has-text("Run All Cells")'
    ).first.click()
    wait_for(lambda: page.evaluate(STATE) == 'busy', 120, 'the start of the kernel', 0.2)
    quiet = 0

    def idle():
        nonlocal quiet
        quiet = quiet + 1 if page.evaluate(STATE) == 'idle' else 0
        return quiet >= 3

    wait_for(idle, seconds, 'the end of the notebook')


def saved(page, path: Path) -> dict:
    "The notebook as JupyterLab saves it."
    import nbformat

    before = path.stat().st_mtime_ns
    page.keyboard.press('Control+s')
    wait_for(lambda: path.stat().st_mtime_ns > before, 60, 'saving')
    time.sleep(1)
    return nbformat.read(path, as_version=4)


def look(page) -> list:
    "Every chart that is drawn while one walks through the notebook: kind, natural width, width and height on the page."
    found = {}
    page.keyboard.press('Escape')
    for i in range(page.evaluate(CELLS)):
        page.evaluate(
            'i => [...document.querySelectorAll(".jp-NotebookPanel .jp-Cell")][i]?.scrollIntoView({block: "start"})',
            i,
        )
        page.wait_for_timeout(150)
        for k, c in enumerate(page.evaluate(CHARTS)):
            found[k] = c
    return list(found.values())


def problems(nb, charts: list) -> list[str]:
    "What is wrong with an executed notebook and the charts that were seen."
    bad, want = [], 0
    for i, c in enumerate(nb.cells):
        if c.cell_type != 'code':
            continue
        if c.source.strip() and c.execution_count is None:
            bad.append(f'cell {i} was not run')
        for o in c.outputs:
            if o.output_type == 'error':
                bad.append(f'cell {i}: {o.ename}: {o.evalue}'[:300])
            want += any(
                m.startswith(('application/vnd.vegalite', 'image/')) for m in o.get('data', {})
            )
    drawn = [c for c in charts if c[1] > 0 and c[2] > 20 and c[3] > 20]
    if not want:
        bad.append('the notebook makes no chart')
    if len(drawn) < want:
        bad.append(f'{want} charts were made, {len(drawn)} are drawn')
    return bad


def check(book: Path, picture: Path, seconds: float) -> list[str]:
    "Problems of one notebook, run in JupyterLab."
    import nbformat
    from playwright.sync_api import sync_playwright

    folder, token, port = (
        Path(tempfile.mkdtemp(prefix='steer_nb_lab_')),
        secrets.token_hex(16),
        free_port(),
    )
    nb = nbformat.read(book, as_version=4)
    for c in nb.cells:
        if c.cell_type == 'code':
            c.outputs, c.execution_count = [], None
    nb.metadata.kernelspec = dict(name='python3', display_name='Python 3', language='python')
    nbformat.write(nb, folder / book.name)
    server = start_lab(folder, token, port)
    try:
        wait_for(
            lambda: _answers(f'http://127.0.0.1:{port}/api/status?token={token}', server),
            180,
            'the start of JupyterLab',
        )
        with sync_playwright() as p:
            browser = p.chromium.launch(
                executable_path=browser_path(), args=['--no-sandbox', '--disable-gpu']
            )
            page = browser.new_page(viewport=dict(width=1400, height=1000))
            page.set_default_timeout(180_000)
            page.goto(f'http://127.0.0.1:{port}/lab/tree/{book.name}?token={token}')
            page.wait_for_selector('.jp-NotebookPanel .jp-Cell')
            wait_for(lambda: page.evaluate(STATE) == 'idle', 180, 'a ready kernel')
            run_all(page, seconds)
            done = saved(page, folder / book.name)
            charts = look(page)
            first = page.locator(
                '.jp-NotebookPanel .jp-OutputArea-output :is(.vega-embed, .jp-RenderedImage img, canvas)'
            ).first
            if first.count():
                first.scroll_into_view_if_needed()
            page.wait_for_timeout(500)
            picture.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=str(picture))
            browser.close()
        print(
            f'lab check: {sum(c.cell_type == "code" for c in done.cells)} code cells run, charts drawn (kind, natural width, size): {charts}'
        )
        return problems(done, charts)
    except Exception:
        print((folder / 'lab.log').read_text()[-3000:])
        raise
    finally:
        if server.poll() is None:
            server.terminate()  # its kernels end with it
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def browser_path() -> str | None:
    return os.environ.get('CHROMIUM') or next((p for n in BROWSERS if (p := shutil.which(n))), None)


def missing() -> str:
    "What the check cannot do without, and how to get it."
    if browser_path() is None:
        return 'no Chromium found (Debian: apt-get install chromium; or CHROMIUM=/path/to/it)'
    for m in ('playwright', 'jupyterlab'):
        try:
            __import__(m)
        except ImportError:
            return f"{m} is not installed (pip install -c constraints.txt 'steer_nb[docs]')"
    return ''


def main():
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument(
        'notebook',
        nargs='?',
        type=Path,
        default=ROOT / 'nbs' / 'tutorials' / '00_five_minutes.ipynb',
    )
    ap.add_argument(
        '--picture', type=Path, default=ROOT / '_proc' / 'lab.png', help='where the screenshot goes'
    )
    ap.add_argument('--seconds', type=float, default=1500, help='most that the notebook may take')
    a = ap.parse_args()
    if why := missing():
        print(f'lab check: SKIPPED, {why}')
        return
    bad = check(a.notebook.resolve(), a.picture.resolve(), a.seconds)
    for b in bad:
        print(f'PROBLEM {b}')
    print(f'lab check: {a.notebook.name}, {len(bad)} problems; picture in {a.picture}')
    sys.exit(bool(bad))


if __name__ == '__main__':
    main()
