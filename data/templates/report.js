document.querySelectorAll('th button').forEach(b => b.onclick = () => {
  const th = b.parentNode, i = [...th.parentNode.children].indexOf(th), body = th.closest('table').tBodies[0];
  const up = th.getAttribute('aria-sort') !== 'ascending';
  th.parentNode.querySelectorAll('th').forEach(o => o.removeAttribute('aria-sort'));
  th.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  const key = r => { const c = r.children[i]; return 'v' in c.dataset ? parseFloat(c.dataset.v) : c.textContent; };
  const order = (a, b) => { const x = key(a), y = key(b);
    if (x !== x || y !== y) return (x !== x) - (y !== y);
    return (up ? 1 : -1) * (typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y), undefined, {numeric: true})); };
  [...body.rows].sort(order).forEach(r => body.append(r));
});
const open = () => { const e = location.hash && document.getElementById(location.hash.slice(1)); if (e && e.tagName === 'DETAILS') { e.open = true; e.scrollIntoView(); } };
addEventListener('hashchange', open); open();
addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(d => d.open = true));
