// Returns what is wrong with the page for people who see little, use a keyboard, or hear it: a list of texts. The rules are
// those of WCAG 2.2 (A and AA) that a program can judge. The page has to fit into the window, because colours are
// looked up where they are drawn.
(() => {
  const faults = [];
  const all = (selector) => [...document.querySelectorAll(selector)].filter(isShown);
  const isShown = (element) => element.checkVisibility() && element.getClientRects().length > 0;
  const named = (element) => `${element.tagName.toLowerCase()}${element.id ? `#${element.id}` : ""} "${element.textContent.trim().slice(0, 30)}"`;

  const byIds = (ids) => ids.split(/\s+/).map((id) => document.getElementById(id)?.textContent ?? "").join(" ");
  const nameOf = (element) =>
    (element.getAttribute("aria-labelledby") && byIds(element.getAttribute("aria-labelledby")).trim()) ||
    element.getAttribute("aria-label")?.trim() ||
    [...(element.labels ?? [])].map((label) => label.textContent).join(" ").trim() ||
    (element.matches("input, select, textarea, svg") ? "" : element.textContent.trim());

  // ---- names and structure
  if (!document.documentElement.lang) faults.push("the page names no language");
  if (!document.title.trim()) faults.push("the page has no title");
  if (all("h1").length !== 1) faults.push(`${all("h1").length} headings of the first level`);
  if (!document.querySelector("main")) faults.push("no main part");
  if (/user-scalable=no|maximum-scale/.test(document.querySelector("meta[name=viewport]")?.content ?? "")) faults.push("the page cannot be enlarged");
  let level = 0;
  for (const heading of all("h1, h2, h3, h4, h5, h6")) {
    const its = Number(heading.tagName[1]);
    if (its > level + 1) faults.push(`heading ${named(heading)} skips a level`);
    level = its;
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids.filter((one, number) => ids.indexOf(one) !== number))) faults.push(`the id ${id} is there twice`);
  for (const attribute of ["aria-labelledby", "aria-describedby", "for"])
    for (const element of document.querySelectorAll(`[${attribute}]`))
      for (const id of element.getAttribute(attribute).split(/\s+/)) if (!document.getElementById(id)) faults.push(`${attribute} of ${named(element)} names ${id}, which is not there`);
  for (const element of all("button, a[href], input, select, textarea, [tabindex='0'], dialog, svg[role=img], section"))
    if (!nameOf(element)) faults.push(`${named(element)} has no name`);
  for (const element of all("svg")) if (element.getAttribute("role") !== "img" && element.getAttribute("aria-hidden") !== "true" && !element.closest("svg svg")) faults.push(`${named(element)} is neither a picture nor hidden`);
  for (const element of all("button, a[href], input, select")) {
    const { width, height } = element.getBoundingClientRect();
    if (element.matches(".skip")) continue;
    if (width < 24 || height < 24) faults.push(`${named(element)} is ${Math.round(width)} by ${Math.round(height)}, too small to be hit`);
  }
  for (const element of document.querySelectorAll("[tabindex]")) if (element.tabIndex > 0) faults.push(`${named(element)} changes the order of the keyboard`);
  for (const element of all("*")) {
    const style = getComputedStyle(element);
    if (/auto|scroll/.test(style.overflowY) && element.scrollHeight > element.clientHeight + 1 && element.tabIndex < 0 && element !== document.scrollingElement)
      faults.push(`${named(element)} scrolls, and no key reaches it`);
  }
  if (document.documentElement.scrollWidth > innerWidth) faults.push(`the page is ${document.documentElement.scrollWidth} wide in a window of ${innerWidth}`);

  // ---- contrast
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return { red, green, blue, alpha: alpha / 255 };
  };
  const light = ({ red, green, blue }) => [red, green, blue].map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, number) => sum + part * [0.2126, 0.7152, 0.0722][number], 0);
  const contrast = (one, other) => {
    const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const groundAt = (x, y, text) => {
    for (const element of document.elementsFromPoint(x, y)) {
      if ((element === text && element instanceof SVGElement) || element.tagName === "text" || element.tagName === "svg") continue;
      const style = getComputedStyle(element);
      const ground = element instanceof SVGElement ? style.fill : style.backgroundColor;
      if (ground === "none" || Number(style.opacity) < 0.5) continue;
      const found = rgba(ground);
      if (found.alpha > 0.9) return found;
    }
    return rgba(getComputedStyle(document.body).backgroundColor);
  };
  // What is behind an open dialog is not in use.
  const walker = document.createTreeWalker(document.querySelector("dialog:modal") ?? document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !isShown(element) || element.matches(".skip, option, script, :disabled, noscript")) continue;
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const { left, top, width, height } = range.getClientRects()[0] ?? {};
    const style = getComputedStyle(element), isDrawn = element instanceof SVGElement;
    if (!width || left < 0 || top < 0 || top > innerHeight) continue;
    const scroller = element.closest(".events");
    if (scroller && top + height > scroller.getBoundingClientRect().bottom) continue;
    const size = parseFloat(style.fontSize), isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const found = contrast(rgba(isDrawn ? style.fill : style.color), groundAt(left + Math.min(width, 4) / 2, top + height / 2, element));
    if (found < (isLarge ? 3 : 4.5)) faults.push(`the text ${named(element)} has a contrast of ${found.toFixed(2)}`);
    if (size < 12) faults.push(`the text ${named(element)} is ${size} px high`);
  }
  return faults;
})();
