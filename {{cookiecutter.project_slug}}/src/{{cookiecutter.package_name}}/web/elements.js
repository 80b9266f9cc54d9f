// Elements and what stands on them. Text is always a text node.

/** A page in the background gets no frames. */
const NO_FRAME_MS = 200;

export const byId = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Make a list hold these items in this order. None is moved that need not be: what has the focus keeps it. */
export function arrange(list, items) {
  const wanted = new Set(items);
  for (const item of [...list.children]) if (!wanted.has(item)) item.remove();
  let place = list.firstElementChild;
  for (const item of items) {
    if (item === place) place = place.nextElementSibling;
    else list.insertBefore(item, place);
  }
}

/** A function that has `draw` called soon: once for all its calls before the next frame. */
export function oncePerFrame(draw) {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    const drawNow = () => {
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      waits = false;
      draw();
    };
    const frame = requestAnimationFrame(drawNow);
    const timer = setTimeout(drawNow, NO_FRAME_MS);
  };
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
