// Returns what is wrong with the page for those who can't see it well, or not at all.
const problems = [];
const report = (what, element) => problems.push(`${what}: ${element.outerHTML.slice(0, 200)}`);
const all = selector => [...document.querySelectorAll(selector)];
const isShown = element =>
  element.checkVisibility({opacityProperty: true, visibilityProperty: true});
const one = (selector, what) => {
  const number = all(selector).length;
  if (number !== 1) problems.push(`${number} of ${what}`);
};

if (!document.documentElement.lang) problems.push('no language');
if (!document.title) problems.push('no title');
one('h1', 'main headings');
one('main', 'main landmarks');
one('body > header, body > * > header[role=banner]', 'banners');
if (all('nav').some(nav => !nav.getAttribute('aria-label') && all('nav').length > 1)) {
  problems.push('a navigation without a name among several');
}
if (!all('a[href^="#"]').some(link => document.getElementById(link.hash.slice(1)))) {
  problems.push('no link that skips to the content');
}

const ids = new Set();
for (const element of all('[id]')) {
  if (ids.has(element.id)) report('an id that is used twice', element);
  ids.add(element.id);
}

const name = element =>
  element.getAttribute('aria-label')?.trim()
  || element.getAttribute('aria-labelledby')?.split(' ')
    .map(id => document.getElementById(id)?.textContent ?? '').join(' ').trim()
  || [...(element.labels ?? [])].map(label => label.textContent).join(' ').trim()
  || element.textContent.trim()
  || element.querySelector(':scope > title')?.textContent.trim();
for (const element of all('input:not([type=hidden]), select, textarea')) {
  const isNamed = element.labels?.length
    || element.getAttribute('aria-label') || element.getAttribute('aria-labelledby');
  if (!isNamed && !['submit', 'button'].includes(element.type)) {
    report('a field without a label', element);
  }
}
for (const element of all('a[href], button, summary, [role=button]')) {
  if (!name(element)) report('a control without a name', element);
}
for (const element of all('img')) {
  if (!element.hasAttribute('alt')) report('a picture without a text', element);
}
for (const element of all('svg')) {
  const isHidden = element.closest('[aria-hidden=true]');
  const isNamed = element.getAttribute('aria-label') || element.getAttribute('aria-labelledby')
    || element.querySelector(':scope > title');
  if (!isHidden && !isNamed) report('a drawing without a name', element);
}
for (const element of all('table')) {
  if (!element.caption?.textContent.trim() && !element.getAttribute('aria-label')) {
    report('a table without a caption', element);
  }
}
for (const element of all('th')) {
  if (!element.scope) report('a heading without a scope', element);
}
for (const element of all('[tabindex]')) {
  if (element.tabIndex > 0) report('a tab order of its own', element);
}

const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
canvas.canvas.width = canvas.canvas.height = 1;
const colours = new Map();
const parse = colour => {
  if (!colours.has(colour)) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    colours.set(colour, [r, g, b, a / 255]);
  }
  return colours.get(colour);
};
const over = ([r, g, b, a], below) =>
  [r, g, b].map((value, i) => value * a + below[i] * (1 - a)).concat(1);
const background = element => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour[3] > 0) layers.push(colour);
    if (colour[3] === 1) break;
  }
  return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
};
const luminance = colour => {
  const [r, g, b] = colour.slice(0, 3).map(value => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, other) => {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const seen = new Set();
while (texts.nextNode() && seen.size < 3000) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || seen.has(element)) continue;
  seen.add(element);
  const box = element.getBoundingClientRect();
  if (!isShown(element) || box.width < 2 || box.height < 2) continue;
  if (element.closest('script, style, title, option, [disabled], [aria-disabled=true]')) continue;
  const style = getComputedStyle(element);
  const isDrawn = element.closest('svg');
  const below = background(isDrawn ?? element);
  const colour = parse(isDrawn ? style.fill : style.color);
  const ratio = contrast(over(colour, below), below);
  const size = parseFloat(style.fontSize);
  const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  if (ratio < (isLarge ? 3 : 4.5)) report(`a contrast of ${ratio.toFixed(2)}`, element);
}

const page = document.documentElement;
if (page.scrollWidth > page.clientWidth) {
  problems.push(`${page.scrollWidth} wide in a window of ${page.clientWidth}`);
  const isScrolled = element => {
    for (let at = element.parentElement; at && at !== document.body; at = at.parentElement) {
      if (getComputedStyle(at).overflowX !== 'visible') return true;
    }
    return false;
  };
  const wide = all('body *').filter(element =>
    element.getBoundingClientRect().right > page.clientWidth + 1 && !isScrolled(element));
  for (const element of wide.slice(0, 5)) report('beyond the edge', element);
}
return problems;
