// What pages do beyond what they do without a script: parts follow what happens, logs grow, slow parts come later.
// It makes no HTML from texts, and talks to nobody but this server.
'use strict';

const lang = document.documentElement.lang;
const state = document.getElementById('live-state');

// Moments: kept fresh, in the reader's own time zone.
const relative = new Intl.RelativeTimeFormat(lang, { numeric: 'auto', style: 'short' });
const exact = new Intl.DateTimeFormat(lang, { dateStyle: 'medium', timeStyle: 'medium' });
function freshen(root) {
  for (const time of root.querySelectorAll('time[datetime]')) {
    const at = new Date(time.dateTime);
    const seconds = (at - Date.now()) / 1000;
    const far = Math.abs(seconds);
    const [unit, size] = far < 60 ? ['second', 1] : far < 3600 ? ['minute', 60] : far < 86400 ? ['hour', 3600] : ['day', 86400];
    const text = relative.format(Math.trunc(seconds / size), unit);
    if (time.textContent !== text) time.textContent = text;
    time.title = exact.format(at);
  }
}
freshen(document);
setInterval(() => freshen(document), 15000);

// Parts of a page are replaced by what the server shows now, unless somebody is busy in them.
const shown = new Map();
for (const part of document.querySelectorAll('[data-live][id]')) shown.set(part.id, null);
let refreshing = false;
let again = false;
async function refresh() {
  if (refreshing) { again = true; return; }
  refreshing = true;
  try {
    const response = await fetch(location.href, { headers: { accept: 'text/html' } });
    if (response.redirected) { location.reload(); return; }
    if (!response.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), 'text/html');
    for (const id of shown.keys()) {
      const [now, next] = [document.getElementById(id), page.getElementById(id)];
      if (!now || !next || shown.get(id) === next.innerHTML) continue;
      const active = document.activeElement;
      if (now.contains(active) && active.matches('input, select, textarea')) continue;
      if (now.querySelector('details[open]')) continue;
      const focused = now.contains(active) ? active.getAttribute('href') : null;
      shown.set(id, next.innerHTML);
      now.replaceChildren(...document.importNode(next, true).childNodes);
      freshen(now);
      if (focused) now.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    }
  } catch {
    // The stream tells when the server is back.
  } finally {
    refreshing = false;
    if (again) { again = false; setTimeout(refresh, 500); }
  }
}

// One stream while the page is looked at; a browser has few connections to one server.
let stream = null;
let lost = false;
function listen() {
  const from = document.body.dataset.liveFrom;
  if (!from || shown.size === 0 || stream || document.hidden) return;
  stream = new EventSource(from);
  stream.addEventListener('changed', refresh);
  stream.addEventListener('open', () => {
    if (lost) { lost = false; state.textContent = document.body.dataset.back; setTimeout(() => { if (!lost) state.textContent = ''; }, 3000); refresh(); }
  });
  stream.addEventListener('error', () => {
    if (!lost) { lost = true; state.textContent = document.body.dataset.lost; }
    if (stream && stream.readyState === EventSource.CLOSED) { stream = null; setTimeout(listen, 3000); }
  });
}
function pause() { if (stream) { stream.close(); stream = null; } }
document.addEventListener('visibilitychange', () => {
  if (document.hidden) { pause(); } else { listen(); if (shown.size) refresh(); }
});
addEventListener('pagehide', pause);
addEventListener('pageshow', listen);
listen();

// Slow parts are asked for once the page is there.
async function load(part, url) {
  part.setAttribute('aria-busy', 'true');
  try {
    const response = await fetch(url, { headers: { accept: 'text/html' } });
    const page = new DOMParser().parseFromString(await response.text(), 'text/html');
    const found = page.getElementById(part.id) || page.querySelector('main');
    if (found) part.replaceChildren(...document.importNode(found, true).childNodes);
    freshen(part);
  } catch {
    part.textContent = document.body.dataset.lost;
  }
  part.removeAttribute('aria-busy');
}
for (const part of document.querySelectorAll('[data-load][id]')) {
  load(part, part.dataset.load);
  part.addEventListener('click', (event) => {
    const link = event.target.closest('a[data-check]');
    if (link) { event.preventDefault(); link.setAttribute('aria-disabled', 'true'); load(part, link.href); }
  });
}

// Logs: lines come as they are written; what is above the bound is let go, the whole text has a link of its own.
const LINES = 5000;
for (const log of document.querySelectorAll('[data-log]')) {
  const bar = document.getElementById(log.dataset.bar);
  const [search, follow, found] = [bar.querySelector('[type=search]'), bar.querySelector('[type=checkbox]'), bar.querySelector('output')];
  const fits = (line) => { const text = search.value.trim().toLowerCase(); return !text || line.textContent.toLowerCase().includes(text); };
  const down = () => { if (follow.checked) log.scrollTop = log.scrollHeight; };
  const tell = () => { found.textContent = search.value.trim() ? String(log.querySelectorAll(':scope > div:not([hidden])').length) : ''; };
  search.addEventListener('input', () => { for (const line of log.children) line.hidden = !fits(line); tell(); down(); });
  search.form?.addEventListener('submit', (event) => event.preventDefault());
  follow.addEventListener('change', down);
  log.addEventListener('wheel', (event) => { if (event.deltaY < 0) follow.checked = false; }, { passive: true });
  let [source, last, over] = [null, log.dataset.after, false];
  const open = () => {
    if (source || over || document.hidden) return;
    source = new EventSource(`${log.dataset.log}?after=${encodeURIComponent(last)}`);
    source.addEventListener('lines', (event) => {
      last = event.lastEventId || last;
      const lines = event.data.split('\n').map((text) => { const line = document.createElement('div'); line.textContent = text; line.hidden = !fits(line); return line; });
      log.append(...lines);
      while (log.childElementCount > LINES) log.firstElementChild.remove();
      if (search.value.trim()) tell();
      down();
    });
    source.addEventListener('over', () => { over = true; source.close(); source = null; setTimeout(refresh, 300); });
    source.addEventListener('error', () => { if (source && source.readyState === EventSource.CLOSED) { source = null; setTimeout(open, 3000); } });
  };
  document.addEventListener('visibilitychange', () => { if (document.hidden) { source?.close(); source = null; } else { open(); } });
  addEventListener('pagehide', () => { source?.close(); source = null; });
  down();
  open();
}

// A form is sent once.
document.addEventListener('submit', (event) => {
  if (event.defaultPrevented) return;
  const form = event.target;
  if (form.method !== 'post') return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = 'yes';
  setTimeout(() => { delete form.dataset.sent; }, 5000);
});
