// Elements and what stands on them. Text is always a text node.

export const byId = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function button(text, onClick) {
  const made = element("button", { type: "button" }, text);
  made.addEventListener("click", onClick);
  return made;
}

export function time(at, text) {
  return element("time", { datetime: new Date(at).toISOString() }, text);
}

/** A hue of its own for each name. */
export function colour(name) {
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 3_600;
  return String(hash % 360);
}

export function initial(name) {
  return [...name][0]?.toUpperCase() ?? "?";
}
