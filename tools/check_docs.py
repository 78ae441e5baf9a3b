"""Is the built site whole? Links and anchors lead somewhere, nothing is loaded from elsewhere, every notebook and every public name is there.

python tools/check_docs.py [FOLDER]
"""

import re, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
LOADED = {
    'script': 'src',
    'img': 'src',
    'iframe': 'src',
    'link': 'href',
    'source': 'src',
    'video': 'src',
    'audio': 'src',
    'embed': 'src',
    'object': 'data',
}


class _Read(HTMLParser):
    "Ids, links and loaded files of a page, and its text."

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.loads, self.words, self._quiet = set(), [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a[k] for k in ('id', 'name') if a.get(k)}
        if tag == 'a' and a.get('href'):
            self.links.append(a['href'])
        if (
            tag in LOADED
            and a.get(LOADED[tag])
            and a.get('rel') not in ('canonical', 'prev', 'next', 'edit')
        ):
            self.loads.append(a[LOADED[tag]])
        if a.get('style'):
            self.loads += re.findall(r'url\(["\']?([^"\')]+)', a['style'])

    def handle_data(self, data):
        self.words.append(data)


def _elsewhere(url: str) -> bool:
    return bool(re.match(r'(https?:)?//', url))


def check_site(out: Path) -> list[str]:
    "Dead links, dead anchors, and files from other places."
    pages, bad = (
        {p.resolve(): _Read(p.read_text(encoding='utf-8')) for p in out.rglob('*.html')},
        [],
    )
    if not pages:
        return [f'{out} holds no pages']
    for p, r in pages.items():
        name = p.relative_to(out.resolve()).as_posix()
        for u in r.loads:
            if _elsewhere(u):
                bad.append(f'{name} loads {u}')
        for u in [*r.links, *(u for u in r.loads if not _elsewhere(u))]:
            s = urlsplit(u)
            if s.scheme or u.startswith('//') or name == '404.html':
                continue
            to = (p.parent / unquote(s.path)).resolve() if s.path else p
            if to.is_dir():
                to = to / 'index.html'
            if not to.exists():
                bad.append(f'{name} leads to {u}, which does not exist')
            elif (
                s.fragment
                and to in pages
                and unquote(s.fragment) not in pages[to].ids
                and not s.fragment.startswith('__')
            ):
                bad.append(f'{name} leads to {u}, where there is no such place')
    for p in out.rglob('*.css'):
        bad += [
            f'{p.name} loads {u}'
            for u in re.findall(
                r'(?:url\(|@import\s+)["\']?((?:https?:)?//[^"\')\s]+)',
                p.read_text(encoding='utf-8'),
            )
        ]
    return bad


def check_content(out: Path, root: Path) -> list[str]:
    "Every notebook has its page, every public name its entry with every parameter, and what is hidden stays so."
    from docs import EXPERIMENTS, notebooks, public

    told = {t for tutorials, _ in EXPERIMENTS.values() for t in tutorials}
    bad = [
        f'tutorials/{p.name} is on the page of no experiment: name it in EXPERIMENTS of tools/docs.py'
        for p in notebooks(root)
        if p.parent.name == 'tutorials' and f'tutorials/{p.stem}' not in told
    ]
    for p in notebooks(root):
        page = out / p.relative_to(root / 'nbs').with_suffix('.html')
        if not page.is_file():
            bad.append(f'{p.relative_to(root)} has no page')
            continue
        text = ''.join(_Read(page.read_text(encoding='utf-8')).words)
        if m := re.search(r'^\s*#\|\s*\w+', text, re.M):
            bad.append(f'{page.relative_to(out)} shows a directive: {m[0].strip()}')
        if 'nbdev.nbdev_export()' in text:
            bad.append(f'{page.relative_to(out)} shows a hidden cell')
    for m, names in public(root).items():
        page = out / 'api' / f'{m}.html'
        ids = _Read(page.read_text(encoding='utf-8')).ids if page.is_file() else set()
        bad += [f'{m}.{n} is not in the API' for n in names if n not in ids]
    return bad


def check_browser(out: Path) -> list[str]:
    "Opened as files in a browser: no script fails, nothing is asked of the network, the pictures show, the search finds. Skipped where there is no browser."
    from check_lab import browser_path, missing

    if why := missing():
        print(f'check_docs: not opened in a browser, {why}')
        return []
    from playwright.sync_api import Error, sync_playwright

    bad, here = [], out.resolve().as_uri()
    with sync_playwright() as p:
        browser = p.chromium.launch(
            executable_path=browser_path(), args=['--no-sandbox', '--disable-gpu']
        )
        page = browser.new_page(viewport=dict(width=1300, height=1000))
        page.set_default_timeout(90_000)
        page.on('pageerror', lambda e: bad.append(f'{page.url}: {e}'))
        page.on('requestfailed', lambda r: bad.append(f'{page.url}: {r.url} could not be loaded'))
        page.on(
            'request',
            lambda r: (
                bad.append(f'{page.url} asks for {r.url}') if r.url.startswith('http') else None
            ),
        )
        page.goto(f'{here}/tutorials/00_five_minutes.html')
        empty = page.evaluate(
            "() => [...document.querySelectorAll('article img')].filter(e => !e.naturalWidth).length"
        )
        if empty:
            bad.append(f'{empty} pictures of the tutorial do not show')
        page.set_viewport_size(dict(width=400, height=900))
        if (wide := page.evaluate('document.documentElement.scrollWidth')) > 400:
            bad.append(f'the tutorial is {wide} px wide on a screen of 400')
        page.set_viewport_size(dict(width=1300, height=1000))
        page.goto(f'{here}/index.html')
        page.click('.md-search__input')
        page.keyboard.type('shuffled labels')
        try:
            page.wait_for_selector('.md-search-result__item')
        except Error:
            bad.append('the search finds nothing')
        browser.close()
    return bad


def check(out: Path, root: Path = ROOT) -> list[str]:
    "All problems; a site that is not whole is not opened in a browser."
    return check_site(out) + check_content(out, root) or check_browser(out)


def main():
    sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
    out = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / '_docs'
    bad = check(out)
    for b in bad:
        print(f'PROBLEM {b}')
    print(f'check_docs: {sum(1 for _ in out.rglob("*.html"))} pages, {len(bad)} problems')
    sys.exit(bool(bad))


if __name__ == '__main__':
    main()
