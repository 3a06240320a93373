// The page works without this script. It adds what HTML alone can't do. Each page has a section.

const each = (selector, action, within = document) =>
  within.querySelectorAll(selector).forEach(action);

// Parses HTML of our own server, which has escaped every text of the history.
const parse = (html) => {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
};

// Replaces an element by a part of a page.
const load = async (element, url) => {
  try {
    const response = await fetch(url);
    element.replaceWith(parse(await response.text()));
  } catch {
    // The element has a link to the same content.
  }
};

// Runs: the histogram reads more than the list, so it comes after it.

each(".histogram[data-fragment]", async (element) => {
  const place = element.parentElement;
  await load(element, element.dataset.fragment);
  each("figure.histogram", selectByDragging, place);
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
