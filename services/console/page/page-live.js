// Updates the page: fetches it again and replaces only the changed parts, so that focus, scroll position and open parts stay.
const everyMs = 5000;
const note = document.getElementById('live');
const pause = document.getElementById('pause');
let isPaused = false;

pause.hidden = false;
pause.addEventListener('click', () => {
  isPaused = !isPaused;
  pause.setAttribute('aria-pressed', String(isPaused));
  pause.textContent = isPaused ? 'Resume' : 'Pause';
});

async function refresh() {
  const response = await fetch(location.href, { cache: 'no-store', signal: AbortSignal.timeout(everyMs) });
  if (!response.ok) throw new Error(`status ${response.status}`);
  const page = new DOMParser().parseFromString(await response.text(), 'text/html');
  for (const part of document.querySelectorAll('[data-live]')) {
    const news = page.getElementById(part.id);
    if (news !== null && news.innerHTML !== part.innerHTML) part.innerHTML = news.innerHTML;
  }
}

async function keepUp() {
  if (!isPaused && !document.hidden) {
    // A screen reader announces the change only, not every refresh.
    const text = await refresh().then(
      () => '',
      () => 'The console does not answer: these numbers are old.',
    );
    if (note.textContent !== text) note.textContent = text;
  }
  setTimeout(keepUp, everyMs);
}

setTimeout(keepUp, everyMs);
