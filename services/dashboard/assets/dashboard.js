// Fills the table with counts as they come (Server-Sent Events), and says
// whether it is connected. What it says in words stands in the page.
"use strict";

(() => {
  // A connection that was silent for so long is given up: the server says
  // `alive` every 15 seconds.
  const SILENCE = 45_000;
  // Between attempts, doubled each time; spread, so that not everybody comes
  // back at once after a restart.
  const FIRST_WAIT = 1_000;
  const LONGEST_WAIT = 30_000;
  // How long a changed row stands out.
  const HIGHLIGHT = 2_000;
  // At most so often is the table drawn, however fast the counts come.
  const DRAW_EVERY = 100;

  const connection = document.getElementById("connection");
  const table = document.getElementById("counts");
  const none = document.getElementById("none");
  const totalOpen = document.getElementById("total-open");
  const totalClosed = document.getElementById("total-closed");

  const language = document.documentElement.lang;
  const number = new Intl.NumberFormat(language);
  const collator = new Intl.Collator(language, { numeric: true });

  // By the neighbourhood's code.
  const rows = new Map();
  let drawing = 0;
  let complete = false;

  function element(parent, name, className) {
    const made = document.createElement(name);
    if (className) made.className = className;
    parent.append(made);
    return made;
  }

  function makeRow(code) {
    const row = { code, count: null, highlight: 0, element: document.createElement("tr") };
    row.element.dataset.neighbourhood = code;
    row.name = element(row.element, "th");
    row.name.scope = "row";
    const amount = element(element(row.element, "td", "open"), "div", "amount");
    row.open = element(amount, "span", "number");
    // Says what the number beside it says.
    const track = element(amount, "span", "track");
    track.setAttribute("aria-hidden", "true");
    row.bar = element(track, "span", "bar");
    row.closed = element(row.element, "td", "closed");
    return row;
  }

  function highlight(row) {
    clearTimeout(row.highlight);
    row.element.classList.add("changed");
    row.highlight = setTimeout(() => row.element.classList.remove("changed"), HIGHLIGHT);
  }

  function apply(count) {
    const code = count.neighbourhood;
    let row = rows.get(code);
    if (!row) {
      row = makeRow(code);
      rows.set(code, row);
    }
    const before = row.count;
    if (before && before.open === count.open && before.closed === count.closed
        && before.name === count.name) return;
    row.count = count;
    row.label = count.name || (code ? code : table.dataset.outside);
    row.name.textContent = row.label;
    row.open.textContent = number.format(count.open);
    row.closed.textContent = number.format(count.closed);
    // The first counts are no change.
    if (complete) highlight(row);
    drawSoon();
  }

  function drawSoon() {
    if (drawing) return;
    drawing = setTimeout(draw, DRAW_EVERY);
  }

  function draw() {
    clearTimeout(drawing);
    drawing = 0;
    const sorted = [...rows.values()].sort((a, b) =>
      b.count.open - a.count.open
      || collator.compare(a.label, b.label)
      || (a.code < b.code ? -1 : 1));
    const most = sorted.length ? sorted[0].count.open : 0;
    let open = 0;
    let closed = 0;
    let place = table.firstElementChild;
    for (const row of sorted) {
      open += row.count.open;
      closed += row.count.closed;
      row.bar.style.inlineSize = most ? `${(100 * row.count.open) / most}%` : "0";
      // Only rows that move are moved.
      if (row.element === place) place = place.nextElementSibling;
      else table.insertBefore(row.element, place);
    }
    // A total of some neighbourhoods is no total.
    if (!complete) return;
    totalOpen.textContent = number.format(open);
    totalClosed.textContent = number.format(closed);
    none.hidden = sorted.length > 0;
  }

  function show(state) {
    if (connection.dataset.state === state) return;
    connection.dataset.state = state;
    connection.textContent = connection.dataset[state];
  }

  let wait = FIRST_WAIT;
  let source = null;
  let silence = 0;
  let retry = 0;

  function connect() {
    clearTimeout(retry);
    const opened = new EventSource("/events");
    source = opened;
    // What this connection has sent before it was caught up; null afterwards.
    let seen = new Set();

    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(lost, SILENCE);
    };
    const on = (name, act) => opened.addEventListener(name, (event) => {
      if (source !== opened) return;
      alive();
      if (act) act(event);
    });

    on("open");
    on("alive");
    on("count", (event) => {
      const count = JSON.parse(event.data);
      if (seen) seen.add(count.neighbourhood);
      apply(count);
    });
    on("caught-up", () => {
      // What the service no longer counts goes.
      if (seen) {
        for (const [code, row] of rows) {
          if (seen.has(code)) continue;
          row.element.remove();
          rows.delete(code);
        }
      }
      seen = null;
      complete = true;
      wait = FIRST_WAIT;
      draw();
      show("connected");
    });
    on("logged-out", () => {
      disconnect();
      // The server shows the login form, and says why.
      location.replace(location.href);
    });
    // EventSource gives up by itself on an answer such as 503, so we do all of
    // the retrying.
    opened.addEventListener("error", () => {
      if (source === opened) lost();
    });
    alive();
  }

  function disconnect() {
    clearTimeout(silence);
    clearTimeout(retry);
    if (source) source.close();
    source = null;
  }

  function lost() {
    disconnect();
    show("disconnected");
    retry = setTimeout(connect, wait * (0.5 + Math.random() / 2));
    wait = Math.min(2 * wait, LONGEST_WAIT);
  }

  // A page that is left lets go of its place at the server; one that comes back
  // from the browser's memory takes one again.
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", (event) => {
    if (event.persisted) connect();
  });
  // Back on the network: at once.
  addEventListener("online", () => {
    if (!source) connect();
  });

  connect();
})();
