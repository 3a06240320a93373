// The page works without this script. It adds what HTML alone can't do. Each page has a section.

const each = (selector, action, within = document) =>
  within.querySelectorAll(selector).forEach(action);

// Parses HTML of our own server, which has escaped every text of the history.
const parse = (html) => {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
};

// Fetches a part of a page.
const get = async (url, signal) => {
  const response = await fetch(url, { signal });
  if (!response.ok) throw new Error(response.statusText);
  return parse(await response.text());
};

// Follows server-sent events, with their state and a button above an element. A paused list and a
// hidden page aren't connected: browsers allow only a few connections to a server.
const followEvents = (element, url, listeners) => {
  const line = document.createElement("p");
  line.className = "following";
  const state = document.createElement("span");
  state.setAttribute("role", "status");
  const button = document.createElement("button");
  line.append(state, " ", button);
  element.before(line);
  let source = null;
  let retry = null;
  let isPaused = false;
  let isAway = false;

  const show = () => {
    const isOpen = source?.readyState === EventSource.OPEN;
    if (isPaused) state.textContent = "Paused";
    else if (isAway) state.textContent = "The database does not answer. Trying again";
    else state.textContent = isOpen ? "Live" : "Connecting";
    line.classList.toggle("is-away", isAway && !isPaused);
    button.textContent = isPaused ? "Resume" : "Pause";
  };
  const become = (away) => () => {
    isAway = away;
    show();
  };
  // The browser connects again after a lost connection, but not after a refusal.
  const fail = () => {
    if (source?.readyState === EventSource.CLOSED) {
      isAway = true;
      retry = setTimeout(connect, 3000);
    }
    show();
  };
  const connect = () => {
    clearTimeout(retry);
    source?.close();
    source = null;
    if (!isPaused && !document.hidden) {
      source = new EventSource(url);
      source.addEventListener("open", become(false));
      source.addEventListener("away", become(true));
      source.addEventListener("back", become(false));
      source.addEventListener("error", fail);
      source.addEventListener("finished", finish);
      for (const [name, listen] of Object.entries(listeners)) source.addEventListener(name, listen);
    }
    show();
  };
  const finish = () => {
    source.close();
    document.removeEventListener("visibilitychange", connect);
    const reload = document.createElement("a");
    reload.href = location.href;
    reload.textContent = "Show the outcome";
    line.replaceChildren("The run has finished. ", reload);
  };
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    connect();
  });
  document.addEventListener("visibilitychange", connect);
  connect();
};

// Runs: the histogram reads more than the list, so it comes after it.

each(".histogram[data-fragment]", async (element) => {
  try {
    const part = await get(element.dataset.fragment);
    const figure = part.firstElementChild;
    element.replaceWith(figure);
    selectByDragging(figure);
  } catch {
    // Its link still leads to the histogram.
  }
});
each("figure.histogram", selectByDragging);

// Each bar is a link. Dragging over several bars selects their time.
function selectByDragging(figure) {
  const svg = figure.querySelector("svg");
  const bars = [...svg.querySelectorAll("a")];
  const selection = document.createElementNS(svg.namespaceURI, "rect");
  selection.setAttribute("class", "selection");
  selection.setAttribute("height", svg.viewBox.baseVal.height);
  let first = null;
  const barAt = (event) => {
    const { left, width } = svg.getBoundingClientRect();
    const place = Math.floor(((event.clientX - left) / width) * bars.length);
    return Math.max(0, Math.min(bars.length - 1, place));
  };
  const range = (event) => [first, barAt(event)].sort((a, b) => a - b);
  svg.addEventListener("dragstart", (event) => event.preventDefault());
  svg.addEventListener("pointerdown", (event) => {
    if (event.button === 0) first = barAt(event);
  });
  svg.addEventListener("pointermove", (event) => {
    if (first === null || barAt(event) === first) return;
    svg.setPointerCapture(event.pointerId);
    const [from, to] = range(event);
    const width = svg.viewBox.baseVal.width / bars.length;
    selection.setAttribute("x", from * width);
    selection.setAttribute("width", (to - from + 1) * width);
    svg.append(selection);
  });
  const end = (event) => {
    if (first === null) return;
    const [from, to] = range(event);
    first = null;
    selection.remove();
    if (event.type !== "pointerup" || from === to) return;
    const url = new URL(figure.dataset.link, location.href);
    url.searchParams.set("from", bars[from].dataset.from);
    url.searchParams.set("to", bars[to].dataset.to);
    location.assign(url);
  };
  svg.addEventListener("pointerup", end);
  svg.addEventListener("pointercancel", end);
}

// Runs that start or change appear in the list.
each(".list[data-live]", (list) => {
  const refresh = async () => {
    const page = await get(location.href);
    const focused = document.activeElement.closest("tr[data-run]")?.dataset.run;
    list.replaceChildren(...page.querySelector(".list").childNodes);
    const rows = [...list.querySelectorAll("tr[data-run]")];
    rows.find((row) => row.dataset.run === focused)?.querySelector("a").focus();
  };
  const update = ({ data }) => {
    const row = parse(data).firstElementChild;
    const body = list.querySelector("tbody");
    if (!body) return refresh().catch(() => {});
    const rows = [...body.rows];
    const old = rows.find((other) => other.dataset.run === row.dataset.run);
    if (old) {
      const hadFocus = old.contains(document.activeElement);
      old.replaceWith(row);
      if (hadFocus) row.querySelector("a").focus();
      return;
    }
    const next = rows.find((other) => other.dataset.started < row.dataset.started);
    next ? next.before(row) : rows.length < list.dataset.size && body.append(row);
    if (body.rows.length > list.dataset.size) body.lastElementChild.remove();
  };
  // What has changed since the page was loaded isn't in the stream. Without the database, the list
  // can't be loaded, so it is loaded again once the database is back.
  const catchUp = () => refresh().catch(() => {});
  followEvents(list, list.dataset.live, { ready: catchUp, back: catchUp, message: update });
});

// Run: windows of rows are loaded as they come near, and removed again when they are far away, so
// that a long list stays small. Only one window at a time is loaded after the last one.

const NEAR = "1200px 0px";
const MAX_WINDOWS = 6;

each("table[data-windows]", (table) => {
  const first = table.tBodies[0];
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (target.matches("a")) isIntersecting && next(target);
        else if (isIntersecting) restore(target);
        else release(target);
      }
    },
    { rootMargin: NEAR },
  );

  const watch = () => {
    const link = table.parentElement.querySelector("a[data-next]");
    if (link) observer.observe(link);
  };

  async function next(link) {
    observer.unobserve(link);
    try {
      const part = await get(link.dataset.next);
      const body = part.querySelector("tbody");
      const more = part.querySelector(".more");
      table.append(body);
      observer.observe(body);
      more ? link.parentElement.replaceWith(more) : link.parentElement.remove();
      table.dispatchEvent(new Event("rows"));
      watch();
    } catch {
      // The link still leads to the next window.
    }
  }

  // An empty body of the same height keeps the place of the others.
  function release(body) {
    body.abort?.abort();
    const isKept =
      body.dataset.released ||
      body === first ||
      table.tBodies.length < MAX_WINDOWS ||
      body.contains(document.activeElement) ||
      body.querySelector(".opened, :target");
    if (isKept) return;
    const height = body.getBoundingClientRect().height;
    const cell = document.createElement("td");
    cell.colSpan = table.tHead.rows[0].cells.length;
    cell.style.height = `${height}px`;
    const row = document.createElement("tr");
    row.append(cell);
    body.replaceChildren(row);
    body.dataset.released = "yes";
  }

  async function restore(body) {
    if (!body.dataset.released) return;
    body.abort = new AbortController();
    try {
      const part = await get(body.dataset.window, body.abort.signal);
      const { rows } = part.querySelector("tbody");
      // A late event may have arrived next to this window.
      for (const { id } of rows) if (id) document.getElementById(id)?.remove();
      body.replaceChildren(...rows);
      delete body.dataset.released;
      table.dispatchEvent(new Event("rows"));
    } catch {
      // It was left again, or is tried again when it comes near.
    }
  }

  each("tbody", (body) => observer.observe(body), table);
  watch();
  if (table.dataset.live) follow(table);
});

// An event that isn't in the loaded window has a window of its own.
const linked = /^#e-(\d+)$/.exec(location.hash);
if (linked && document.querySelector("#steps") && !document.querySelector(location.hash)) {
  const query = `?view=events&from=${linked[1]}`;
  if (location.search !== query) location.replace(query + location.hash);
}

// An event opens below its row.
const open = async (link) => {
  const row = link.closest("tr");
  if (row.nextElementSibling?.matches(".opened")) {
    row.nextElementSibling.remove();
    link.removeAttribute("aria-expanded");
    return;
  }
  try {
    const article = (await get(link.href)).querySelector("article");
    // Its links are relative to its own page.
    each("a[href]", (a) => (a.href = new URL(a.getAttribute("href"), link.href)), article);
    const opened = document.createElement("tr");
    opened.className = "opened";
    opened.insertCell().append(article);
    opened.cells[0].colSpan = row.cells.length;
    row.after(opened);
    link.setAttribute("aria-expanded", "true");
  } catch {
    location.assign(link.href);
  }
};

document.addEventListener("click", (event) => {
  const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey;
  const link = event.target.closest("a[data-open]");
  if (!link || !isPlain) return;
  event.preventDefault();
  open(link);
});

each("[data-search]", (label) => {
  const table = document.querySelector("table[data-windows]");
  if (!table) return;
  const input = label.querySelector("input");
  const search = () => {
    const text = input.value.trim().toLowerCase();
    each(
      "tr[data-row]",
      (row) => (row.hidden = !row.textContent.toLowerCase().includes(text)),
      table,
    );
  };
  label.hidden = false;
  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
  table.addEventListener("rows", search);
});

// New events arrive as rows.
function follow(table) {
  const MAX_ROWS = 1000;
  const isNewestFirst = table.dataset.order === "newest";
  const body = document.createElement("tbody");
  isNewestFirst ? table.tHead.after(body) : table.append(body);
  const url = new URL(table.dataset.live, location.href);
  const arrived = [];
  const sequence = (row) => Number(row.id.slice(2));
  const rows = () => [...table.querySelectorAll("tr[id]")];
  let newest = Math.max(-1, ...rows().map(sequence));
  const insert = (row) => {
    const at = sequence(row);
    // A late event has its place among the others.
    const isNext = (other) => (isNewestFirst ? sequence(other) < at : sequence(other) > at);
    const next = at < newest && rows().find(isNext);
    if (next) next.before(row);
    else isNewestFirst && at > newest ? body.prepend(row) : body.append(row);
    newest = Math.max(newest, at);
  };
  const flush = () => {
    const page = document.documentElement;
    const isAtEnd = page.scrollHeight - page.scrollTop - page.clientHeight < 80;
    for (const row of arrived.splice(0)) {
      if (!document.getElementById(row.id)) insert(row);
    }
    while (body.rows.length > MAX_ROWS) body.deleteRow(isNewestFirst ? -1 : 0);
    table.dispatchEvent(new Event("rows"));
    if (!isNewestFirst && isAtEnd) page.scrollTop = page.scrollHeight;
  };
  const message = ({ data, lastEventId }) => {
    if (!arrived.length) requestAnimationFrame(flush);
    arrived.push(parse(data).firstElementChild);
    // A new connection goes on after it.
    url.searchParams.set("cursor", lastEventId);
    document.querySelector(".empty")?.remove();
  };
  followEvents(table, url, { message });
}

// A secure context is needed to copy; elsewhere a click selects the id.
each("[data-copy]", (text) => {
  if (!navigator.clipboard) return;
  const button = document.createElement("button");
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text.dataset.copy);
    button.textContent = "Copied";
  });
  text.after(" ", button);
});

// Keys, on every page.

let isAfterG = false;

const step = (by) => {
  const rows = [...document.querySelectorAll("tr[data-row]")].filter((row) => !row.hidden);
  const at = rows.indexOf(document.activeElement.closest("tr[data-row]"));
  const row = rows[at < 0 ? (by > 0 ? 0 : -1) : at + by];
  const link = row?.querySelector("a");
  link?.focus({ preventScroll: true });
  link?.scrollIntoView({ block: "nearest" });
};

const keys = {
  j: () => step(1),
  k: () => step(-1),
  "/": () => document.querySelector("[type=search], .filters input:not([type=checkbox])")?.focus(),
  "?": () => document.querySelector("#keys")?.showModal(),
  r: () => isAfterG && location.assign(document.body.dataset.root),
};

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.("input, select, textarea, [contenteditable], dialog");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = keys[event.key];
  if (key) {
    if (event.key !== "r" || isAfterG) event.preventDefault();
    key();
  }
  isAfterG = event.key === "g";
});
