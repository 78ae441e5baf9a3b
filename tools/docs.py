"""The documentation site, from the notebooks and the outputs stored in them: nothing is executed, nothing is fetched.

    python tools/docs.py                 write _docs/ (open _docs/index.html; no server is needed) and check it
    python tools/docs.py --out FOLDER    somewhere else

Pages of notebooks are their cells without the hidden ones; the API tables come from the comments beside parameters;
the pages of experiments from their modules and job files.
"""

import argparse, ast, html, importlib, inspect, os, re, shutil, sys, tempfile, textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]
from readme import DIRECTIVE, HIDDEN

ROOMS = dict(
    plots='Plots',
    models='Models',
    data='Data',
    methods='Methods',
    evals='Evals',
    launch='Launch',
    reports='Reports',
    dev='For contributors',
)
ABOUT = dict(
    plots='Charts of tidy tables.',
    launch='Many jobs, models and seeds, on this machine or Slurm.',
    reports='Runs of any experiment as tables and one page; two sets compared.',
    dev='Timing, benches, every job at reduced size.',
    models='What a model is: sites, loading, looped models, tracing, edits, replay.',
    data='What goes in: benchmarks, reasoning against memory, arithmetic, tool calls.',
    methods="What is computed from activations: directions, probes, transcoders; training; other programs' files.",
    evals='What is measured: scoring, sweeps, effects, probes and their nulls, patches, statistics.',
    bench='Speed and fidelity against what others do, with the machine it ran on.',
    tutorials='For readers: from two lists of sentences to whole experiments.',
    experiments='One function per job: parameters in, run directory out.',
    training='How the small models that come along were made.',
    results='What was found, over models, seeds and ways of asking.',
    api='Every public name with its parameters.',
)
EXPERIMENTS = {  # name -> tutorials about it, pages with its results; its room is listed by itself
    'pas': (['tutorials/01_pas', 'tutorials/00_five_minutes'], ['run_exp', 'report']),
    'lirefs': (['tutorials/03_lirefs', 'tutorials/02_recurrent_depth'], ['report']),
    'think_to_talk': (
        ['tutorials/04_think_to_talk', 'tutorials/05_think_to_talk_looped'],
        ['results/00_twins', 'report'],
    ),
    'delta_transcoder': (['tutorials/06_delta_transcoder'], ['results/02_delta_ways', 'report']),
}

# ---- notebooks -------------------------------------------------------------------------------------------------------


class Page:
    "A page of the site: where it lies, its title and its line."

    def __init__(self, path: str, title: str, line: str = '', module: str = ''):
        self.path, self.title, self.line, self.module = path, title, line, module


def notebooks(root: Path) -> list[Path]:
    return [p for p in sorted(root.glob('nbs/**/*.ipynb')) if '.ipynb_checkpoints' not in p.parts]


def _plain(text: str) -> str:
    return re.sub(
        r'[`*_]{1,2}(?=\S)|(?<=\S)[`*]{1,2}|\[([^\]]*)\]\([^)]*\)', lambda m: m[1] or '', text
    ).strip()


def page_of(nb, rel: str) -> Page:
    "Title and subtitle of a notebook, from its first heading and its first `>` line."
    text = '\n'.join(c.source for c in nb.cells if c.cell_type == 'markdown')
    title, line = re.search(r'^# +(.+)$', text, re.M), re.search(r'^> *(.+)$', text, re.M)
    module = re.search(r'^#\| *default_exp +(\S+)', '\n'.join(c.source for c in nb.cells), re.M)
    return Page(
        rel,
        _plain(title[1]) if title else Path(rel).stem,
        _plain(line[1]) if line else '',
        module[1] if module else '',
    )


_TARGET = re.compile(r'(\]\()([^)\s#]+)(#[^)\s]*)?(\))')


def _links(text: str, here: str, pages: set[str]) -> str:
    "Links to notebooks become links to their pages; to a folder, its index; to another file, a copy of it."

    def sub(m):
        target = m[2]
        if re.match(r'[a-z][a-z+.-]*:', target):
            return m[0]
        full = os.path.normpath(os.path.join('nbs', os.path.dirname(here), target))
        inside = os.path.relpath(full, 'nbs')
        if inside.endswith('.ipynb'):
            to = inside[:-6] + '.md'
        elif f'{inside}/index.md' in pages:
            to = f'{inside}/index.md'
        elif full.startswith('nbs/'):
            to = inside
        else:
            to = {'data/README.md': 'project/data.md'}.get(
                full, 'project/' + full.removesuffix('.md').lower() + '.md'
            )
        return m[1] + os.path.relpath(to, os.path.dirname(here) or '.') + (m[3] or '') + m[4]

    parts = re.split(r'(```.*?```|`[^`\n]*`)', text, flags=re.S)
    return ''.join(p if i % 2 else _TARGET.sub(sub, p) for i, p in enumerate(parts))


def _mentions(text: str, here: str, where: dict[str, str]) -> str:
    "A public name in backticks becomes a link to its entry in the API."

    def sub(m):
        if m[2] not in where:
            return m[0]
        page, anchor = where[m[2]].split('#')
        return f'[`{m[1]}`]({os.path.relpath(page, os.path.dirname(here) or ".")}#{anchor})'

    parts = re.split(r'(```.*?```|\[[^\]]*\]\([^)]*\)|^#[^\n]*)', text, flags=re.S | re.M)
    return ''.join(
        p if i % 2 else re.sub(r'(?<!`)`(([A-Za-z_][\w.]*)(?:\(.*?\))?)`(?!`)', sub, p)
        for i, p in enumerate(parts)
    )


def _output(o, name: str, files: dict[str, bytes]) -> str:
    "A stored output: a picture before a table before text."
    import base64

    data = o.get('data', {})

    def box(x):
        return f'\n<div class="out">{x}</div>\n'

    if 'image/png' in data:
        files[name + '.png'] = base64.b64decode(data['image/png'])
        return f'\n![chart]({Path(name).name}.png)\n'
    if 'image/svg+xml' in data:
        return box(''.join(data['image/svg+xml']))
    if 'text/html' in data:
        text = re.sub(
            r'<style scoped>.*?</style>|<script.*?</script>',
            '',
            ''.join(data['text/html']),
            flags=re.S,
        )
        return box(re.sub(r'\n\s*\n', '\n', text).strip())
    if 'text/markdown' in data:
        return '\n' + ''.join(data['text/markdown']) + '\n'
    text = ''.join(o.get('text', '') or data.get('text/plain', ''))
    text = re.sub(r'\x1b\[[0-9;]*m', '', text).strip('\n')
    return box(f'<pre>{html.escape(text)}</pre>').replace('\n\n', '\n&#10;') if text.strip() else ''


def _defined(source: str) -> list[str]:
    "Public names that an exported cell defines."
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return []
    out = []
    for n in body:
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)):
            out.append(n.name)
        elif isinstance(n, (ast.Assign, ast.AnnAssign)):
            out += [
                t.id
                for t in (n.targets if isinstance(n, ast.Assign) else [n.target])
                if isinstance(t, ast.Name)
            ]
    return [n for n in out if not n.startswith('_')]


def notebook_md(
    nb, page: Page, pages: set[str], where: dict, entries: dict
) -> tuple[str, dict[str, bytes]]:
    "A notebook as Markdown, and its pictures."
    parts, files, api = [], {}, f'api/{page.module}.md'
    for i, c in enumerate(nb.cells):
        if c.cell_type == 'raw' or HIDDEN.search(c.source) or c.source.startswith('---'):
            continue
        if c.cell_type == 'markdown':
            parts.append(_mentions(_links(c.source, page.path, pages), page.path, where))
            continue
        exported, source = (
            re.search(r'^#\| *export', c.source, re.M),
            DIRECTIVE.sub('', c.source).strip(),
        )
        if source:
            parts.append(f'```python\n{source}\n```')
        names = (
            [n for n in _defined(source) if n in entries.get(page.module, ())] if exported else []
        )
        if names:
            at = os.path.relpath(api, os.path.dirname(page.path) or '.')
            parts.append(
                '<p class="api-links">API: '
                + ', '.join(f'<a href="{at[:-3]}.html#{n}"><code>{n}</code></a>' for n in names)
                + '</p>'
            )
        parts += [
            _output(o, f'{page.path[:-3]}_{i}_{k}', files)
            for k, o in enumerate(c.get('outputs', []))
        ]
    return '\n\n'.join(p for p in parts if p) + '\n', files


# ---- API ---------------------------------------------------------------------------------------------------------------


def modules(root: Path) -> list[str]:
    "Names of the modules that notebooks export, below the package."
    files = [p for p in sorted((root / 'steer_nb').rglob('*.py')) if not p.name.startswith('_')]
    return [
        p.relative_to(root / 'steer_nb').with_suffix('').as_posix().replace('/', '.') for p in files
    ]


def _node(o) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(o))).body[0]
    except (OSError, TypeError, SyntaxError):
        return None


def _arguments(a: ast.arguments) -> list[tuple[str, str, str]]:
    "Name, type and default of each parameter, as they stand in the source."
    un, pos = (lambda x: ast.unparse(x) if x is not None else ''), [*a.posonlyargs, *a.args]
    out = [
        (x.arg, un(x.annotation), un(d))
        for x, d in zip(pos, [None] * (len(pos) - len(a.defaults)) + a.defaults, strict=True)
    ]
    if a.vararg:
        out.append(('*' + a.vararg.arg, un(a.vararg.annotation), ''))
    out += [
        (x.arg, un(x.annotation), un(d)) for x, d in zip(a.kwonlyargs, a.kw_defaults, strict=True)
    ]
    return out + ([('**' + a.kwarg.arg, un(a.kwarg.annotation), '')] if a.kwarg else [])


def _cell(text: str) -> str:
    "Text with `code` as HTML."
    return re.sub(r'`([^`]+)`', r'<code>\1</code>', html.escape(text, quote=False))


def _table(rows: list[tuple[str, str, str, str]], first: str = 'parameter') -> str:
    def code(x):
        return f'<code>{html.escape(x, quote=False)}</code>' if x else ''

    body = ''.join(
        f'<tr><td>{code(n) if n != "returns" else "<b>returns</b>"}</td><td>{code(t)}</td><td>{code(d)}</td><td>{_cell(c)}</td></tr>'
        for n, t, d, c in rows
    )
    return f'<div class="out"><table class="api"><thead><tr><th>{first}</th><th>type</th><th>default</th><th>what it is</th></tr></thead><tbody>{body}</tbody></table></div>'


def _comments(o) -> dict[str, str]:
    from fastcore.docments import docments

    try:
        d = docments(o, full=True, returns=True)
    except Exception:
        return {}  # a class whose __init__ has no source
    return {k: ' '.join((v.docment or '').split()) for k, v in d.items() if k is not None}


def signature_rows(o) -> tuple[str, list]:
    "A one-line signature and the table's rows, of a function, a dataclass or another class."
    node, init = _node(o), None
    if isinstance(node, ast.ClassDef):
        fields = [
            (f.target.id, ast.unparse(f.annotation), ast.unparse(f.value) if f.value else '')
            for f in node.body
            if isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name)
        ]
        init = next(
            (f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == '__init__'), None
        )
        if init is None:
            args, notes, ret = fields, _comments(o), None
        else:
            args, notes, ret = _arguments(init.args)[1:], _comments(o.__init__), None
        kind = 'class '
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        args, notes, ret, kind = _arguments(node.args), _comments(o), node.returns, ''
    else:
        return '', []
    args = [a for a in args if a[0] != 'self']
    rows = [(n, t, d, notes.get(n.lstrip('*'), '')) for n, t, d in args]
    if ret is not None and (ast.unparse(ret) != 'None' or notes.get('return')):
        rows.append(('returns', ast.unparse(ret), '', notes.get('return', '')))
    line = (
        f'{kind}{o.__qualname__}(' + ', '.join(n + (f'={d}' if d else '') for n, _, d in args) + ')'
    )
    return (line if args or not kind else f'class {o.__name__}'), rows


def _entry(name: str, o, level: str = '##') -> str:
    "Heading, signature, docstring and table of one public name."
    head = f'{level} {name} {{ #{name} }}'
    if not (inspect.isfunction(o) or inspect.isclass(o)) and not callable(o):
        value = repr(o)
        return f'{head}\n\n<pre class="sig">{html.escape(name)} = {html.escape(value[:300] + " ..." * (len(value) > 300))}</pre>'
    line, rows = signature_rows(o)
    doc = inspect.getdoc(o) or ''
    if inspect.isclass(o) and doc.startswith(f'{o.__name__}('):
        doc = ''
    return '\n\n'.join(
        x
        for x in (
            head,
            f'<pre class="sig">{html.escape(line)}</pre>' if line else '',
            doc.strip(),
            _table(rows) if rows else '',
        )
        if x
    )


def _methods(cls) -> list[tuple[str, object]]:
    "Public methods and properties that are our own."
    out = []
    for n, m in vars(cls).items():
        f = m.fget if isinstance(m, property) else getattr(m, '__func__', m)
        if (
            not n.startswith('_')
            and inspect.isfunction(f)
            and f.__module__.startswith('steer_nb')
            and f.__doc__
        ):
            out.append((n, f))
    return out


def public(root: Path) -> dict[str, list[str]]:
    "Public names per module, as its `__all__` says; read without importing."
    out = {}
    for m in modules(root):
        tree = ast.parse(
            (root / 'steer_nb' / (m.replace('.', '/') + '.py')).read_text(encoding='utf-8')
        )
        found = next(
            (
                n.value
                for n in tree.body
                if isinstance(n, ast.Assign) and getattr(n.targets[0], 'id', '') == '__all__'
            ),
            None,
        )
        if found is not None and (names := ast.literal_eval(found)):
            out[m] = names
    return out


def api_page(module: str, names: list[str], essay: Page | None) -> str:
    mod = importlib.import_module(f'steer_nb.{module}')
    parts = [f'# steer_nb.{module}', *([f'> {mod.__doc__.strip()}'] if mod.__doc__ else [])]
    if essay:
        parts.append(f'Explained in [{essay.title}](../{essay.path}).')
    for n in names:
        o = getattr(mod, n)
        parts.append(_entry(n, o))
        if inspect.isclass(o) and o.__module__ == mod.__name__:
            parts += [_entry(f'{n}.{k}', f, '###') for k, f in _methods(o)]
    return '\n\n'.join(parts) + '\n'


# ---- experiments -----------------------------------------------------------------------------------------------------


def parameter_rows(module) -> list[tuple[str, str, str, str]]:
    "Name, type, default and meaning of an experiment's parameters."
    from steer_nb.params import param_table

    if hasattr(module, 'Config'):
        table = param_table(module.Config)
        return [(r.name, r.type, repr(r.default), r.meaning) for r in table.itertuples(index=False)]
    return _rows_of_defaults(module)


def _rows_of_defaults(module) -> list[tuple[str, str, str, str]]:
    "The same from the source of `defaults`, of an experiment without a dataclass of parameters."
    import io, tokenize

    source = inspect.getsource(module)
    call = next(
        n.value
        for n in ast.parse(source).body
        if isinstance(n, ast.Assign) and getattr(n.targets[0], 'id', '') == 'defaults'
    )
    notes = {
        t.start[0]: t.string.lstrip('# ')
        for t in tokenize.generate_tokens(io.StringIO(source).readline)
        if t.type == tokenize.COMMENT
    }
    last, rows = {}, []
    for k in call.keywords:
        last[k.value.end_lineno] = k.arg
    for k in call.keywords:
        v = module.defaults[k.arg]
        kind, value = v if isinstance(v, tuple) else (type(v), v)
        kind = (
            kind.__name__ if isinstance(kind, type) and not hasattr(kind, '__args__') else str(kind)
        )
        rows.append(
            (
                k.arg,
                kind,
                repr(value),
                notes.get(k.value.end_lineno, '') if last[k.value.end_lineno] == k.arg else '',
            )
        )
    return rows


def experiment_page(name: str, pages: dict[str, Page], jobs) -> str:
    from steer_nb.experiments.jobs import experiments

    module = importlib.import_module(experiments[name])
    tutorials, results = EXPERIMENTS.get(name, ([], []))
    parts = [r.removesuffix('.md') for r in pages if r.startswith(f'experiments/{name}/')]
    own = next((p for p in pages.values() if f'steer_nb.{p.module}' == module.__name__), None)

    def link(r):
        return f'- [{pages[r + ".md"].title}](../{r}.md): {pages[r + ".md"].line}'

    mine = jobs[jobs.experiment == name]
    some = mine.job.tolist()[0] if f'{name}/embedded' not in set(mine.job) else f'{name}/embedded'
    rows = ''.join(
        f'<tr><td><code>{r.job}</code></td><td>{html.escape(r.about)}</td><td>{html.escape(r.reproduces)}</td><td>{html.escape(r.needs)}</td><td>{r.embedded}</td><td>{r.runs}</td></tr>'
        for r in mine.itertuples()
    )
    out = [
        f'# {own.title}',
        '## The question',
        f'> {own.line}',
        '## Run it',
        f'```sh\npapermill nbs/run_exp.ipynb out.ipynb -p job {some} -p seed 3\nsteer_launch run {some} --seeds 0,1,2\n```',
        f'```python\nfrom steer_nb import run_job\nrun = run_job({some!r}, seed=3)   # parameters in, a finished run directory out\n```',
        '## Read about it',
        '\n'.join(map(link, [*tutorials, *parts])),
        '## Jobs',
        f'<div class="out"><table class="jobs"><thead><tr><th>job</th><th>what it is about</th><th>reproduces</th><th>needs</th><th>runs here</th><th>runs</th></tr></thead><tbody>{rows}</tbody></table></div>',
        '*runs here*: yes where the models come along; reduced where a small model takes the place of its own (`make jobs`).',
        '## Parameters',
        'Given behind `-p` to papermill or `steer_launch`, as keywords from Python, or under `params` in a job file.',
        _table(parameter_rows(module)),
        '## Where results are',
        f'Every run leaves a directory under `$STEER_HOME` (else `runs/`): `RUN.json` with parameters, versions and status, tables as parquet, charts, vectors. '
        f'`steer_nb.{module.__name__.removeprefix("steer_nb.")}.tables(run)` reads the tables by name; `nbs/report.ipynb` puts many runs side by side.',
        '\n'.join(map(link, results)),
    ]
    return '\n\n'.join(out) + '\n'


# ---- the site --------------------------------------------------------------------------------------------------------


def _index(folder: str, title: str, pages: list[Page]) -> str:
    rows = '\n'.join(
        f'- [{p.title}]({os.path.relpath(p.path, folder)})' + (f': {p.line}' if p.line else '')
        for p in pages
    )
    return (
        f'# {title}\n\n> {ABOUT.get(folder, "")}\n\n{rows}\n'
        if ABOUT.get(folder)
        else f'# {title}\n\n{rows}\n'
    )


def stage(root: Path, src: Path) -> list:
    "Write the sources of the site; the navigation."
    import nbformat
    from steer_nb.experiments.jobs import experiments, list_jobs

    books = {
        p.relative_to(root / 'nbs').with_suffix('.md').as_posix(): nbformat.read(p, as_version=4)
        for p in notebooks(root)
    }
    pages = {rel: page_of(nb, rel) for rel, nb in books.items()}
    names = public(root)
    essays = {p.module: p for p in pages.values() if p.module}
    folders = sorted({os.path.dirname(r) for r in pages} - {''})
    known = set(pages) | {f'{f}/index.md' for f in folders}
    seen = [n for v in names.values() for n in v]
    where = {
        n: f'api/{m}.md#{n}'
        for m, v in names.items()
        for n in v
        if seen.count(n) == 1 and len(n) > 3
    }

    def put(rel: str, text: str | bytes):
        (src / rel).parent.mkdir(parents=True, exist_ok=True)
        (src / rel).write_bytes(text if isinstance(text, bytes) else text.encode())

    for rel, nb in books.items():
        text, files = notebook_md(nb, pages[rel], known, where, names)
        put(rel, text)
        for k, v in files.items():
            put(k, v)
    for m, v in names.items():
        put(f'api/{m}.md', api_page(m, v, essays.get(m)))
    jobs = list_jobs().fillna('')
    for e in experiments:
        put(f'experiments/{e}.md', experiment_page(e, pages, jobs))
    for name, to in {
        'CONTRIBUTING.md': 'contributing',
        'CHANGELOG.md': 'changelog',
        'LICENSE': 'license',
        'data/README.md': 'data',
    }.items():
        text = (root / name).read_text(encoding='utf-8')
        put(
            f'project/{to}.md',
            f'# Licence\n\n<pre>{html.escape(text)}</pre>\n'
            if name == 'LICENSE'
            else _TARGET.sub(
                lambda m: m[0] if ':' in m[2] else f'`{m[2]}`',
                re.sub(r'\[([^\]]*)\]\((?!https?:)[^)]*\)', r'\1', text),
            ),
        )
    for f in ('worker.js', 'site.css'):
        put(f'assets/{f}', (root / 'tools' / 'docs_assets' / f).read_bytes())

    def item(p):
        return {p.title: p.path}

    def room(folder: str, title: str, extra=()):
        own = [
            p
            for r, p in pages.items()
            if r.startswith(f'{folder}/')
            and not (folder == 'tutorials' and r.endswith('00_five_minutes.md'))
        ]
        listed = [p for r, p in pages.items() if r.startswith(f'{folder}/')]
        first = (
            [
                Page(
                    f'experiments/{e}.md',
                    pages[essays[experiments[e].removeprefix('steer_nb.')].path].title
                    + ' (jobs and parameters)',
                    '',
                )
                for e in experiments
            ]
            if folder == 'experiments'
            else []
        )
        put(f'{folder}/index.md', _index(folder, title, [*first, *listed]))
        return [f'{folder}/index.md', *extra, *map(item, own)]

    def top(start):
        return [item(p) for r, p in pages.items() if '/' not in r and r.startswith(start)]

    exps = [
        {pages[essays[experiments[e].removeprefix('steer_nb.')].path].title: f'experiments/{e}.md'}
        for e in experiments
    ]
    more = room('experiments', 'Experiments')
    api = [
        Page(f'api/{m}.md', m, (importlib.import_module(f'steer_nb.{m}').__doc__ or '').strip())
        for m in names
    ]
    put('api/index.md', _index('api', 'API', api))

    def group(g):
        return [
            {m.split('.')[-1]: f'api/{m}.md'}
            for m in names
            if (m.split('.')[0] == g if g else '.' not in m)
        ]

    library = [
        {'Core': [*top('0')]},
        *({t: room(f, t)} for f, t in ROOMS.items()),
    ]
    put(
        'library.md',
        '# Library\n\n> Every module is a notebook: definition, example, test, and why.\n\n'
        + '\n'.join(f'- [{t}]({f}/index.md): {ABOUT[f]}' for f, t in ROOMS.items())
        + '\n'
        + '\n'.join(
            f'- [{p.title}]({r}): {p.line}'
            for r, p in pages.items()
            if '/' not in r and r.startswith('0')
        )
        + '\n',
    )
    nav = [
        {
            'Start': [
                'index.md',
                item(pages['tutorials/00_five_minutes.md']),
                {
                    'Project': [
                        {'Contributing': 'project/contributing.md'},
                        {'Release notes': 'project/changelog.md'},
                        {'Data that come along': 'project/data.md'},
                        {'Licence': 'project/license.md'},
                    ]
                },
            ]
        },
        {'Tutorials': room('tutorials', 'Tutorials')},
        {
            'Experiments': [
                more[0],
                *exps,
                item(pages['run_exp.md']),
                item(pages['report.md']),
                item(pages['originals.md']),
                {'How they are made': more[1:]},
            ]
        },
        *([{'How to add': 'how_to_add.md'}] if 'how_to_add.md' in pages else []),
        {'Library': ['library.md', *library]},
        {
            'API': [
                'api/index.md',
                {'core': group('')},
                *({g: group(g)} for g in (*ROOMS, 'experiments')),
            ]
        },
        {'Results': room('results', 'Results')},
        {'Training': room('training', 'Training')},
        {'Benches': room('bench', 'Benches')},
    ]
    rest = sorted(set(pages) - set(_paths(nav)))
    return nav + ([{'More': [item(pages[r]) for r in rest]}] if rest else [])


def _paths(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [p for x in (nav.values() if isinstance(nav, dict) else nav) for p in _paths(x)]


def config(src: Path, out: Path, nav: list) -> dict:
    return dict(
        site_name='steer_nb',
        docs_dir=str(src),
        site_dir=str(out),
        use_directory_urls=False,
        nav=nav,
        theme=dict(
            name='material',
            font=False,
            features=[
                'navigation.tabs',
                'navigation.indexes',
                'navigation.top',
                'navigation.prune',
                'content.code.copy',
                'search.highlight',
                'toc.follow',
            ],
            palette=[
                dict(
                    media='(prefers-color-scheme: light)',
                    scheme='default',
                    toggle=dict(icon='material/weather-night', name='dark'),
                ),
                dict(
                    media='(prefers-color-scheme: dark)',
                    scheme='slate',
                    toggle=dict(icon='material/weather-sunny', name='light'),
                ),
            ],
        ),
        plugins=['search', 'offline'],
        extra=dict(generator=False, polyfills=['assets/worker.js?iframe-worker']),
        extra_css=['assets/site.css'],
        markdown_extensions=[
            'tables',
            'attr_list',
            'pymdownx.superfences',
            {'pymdownx.highlight': dict(guess_lang=False)},
            {'toc': dict(permalink=True, toc_depth='2-3')},
        ],
        validation=dict(
            nav=dict(omitted_files='warn', not_found='warn'),
            links=dict(not_found='warn', anchors='warn', unrecognized_links='warn'),
        ),
    )


def build(root: Path, out: Path) -> Path:
    "The site in `out`; whatever mkdocs warns of ends the build."
    try:
        import yaml
        from mkdocs.commands.build import build as mkdocs_build
        from mkdocs.config import load_config
        import material  # noqa: F401  the theme
    except ImportError as e:
        sys.exit(
            f"docs: {e.name} is not installed: pip install -c constraints.txt 'steer_nb[docs]' (make docs does that)"
        )
    with tempfile.TemporaryDirectory(prefix='steer_nb_docs_') as tmp:
        src = Path(tmp) / 'src'
        nav = stage(root, src)
        (Path(tmp) / 'mkdocs.yml').write_text(
            yaml.safe_dump(config(src, out, nav), sort_keys=False, allow_unicode=True),
            encoding='utf-8',
        )
        if out.exists():
            shutil.rmtree(out)
        cfg = load_config(str(Path(tmp) / 'mkdocs.yml'), strict=True)
        cfg.plugins.run_event('startup', command='build', dirty=False)
        mkdocs_build(cfg)
    return out


def main():
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument('--out', type=Path, default=ROOT / '_docs', help='where the site goes')
    args = ap.parse_args()
    os.environ.setdefault('NO_MKDOCS_2_WARNING', '1')
    out = build(ROOT, args.out.resolve())
    from check_docs import check

    bad = check(out, ROOT)
    for b in bad[:60]:
        print(f'PROBLEM {b}')
    print(f'docs: {sum(1 for _ in out.rglob("*.html"))} pages in {out}, {len(bad)} problems')
    sys.exit(bool(bad))


if __name__ == '__main__':
    main()
