// The lists beside the conversation: the rooms that one is in, those that there are, and who is here.

import { arrange, byId, colour, element, initial } from "./elements.js";

const items = { joined: new Map(), known: new Map() }; // by the name of the room
const more = element("li", { class: "muted small" }, "There are more: write how the name begins.");

export function drawRooms(chat, openRoom) {
  const joined = [...chat.rooms.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
  arrange(byId("joined"), itemsOf("joined", joined.map(({ name }) => name)));
  for (const room of joined) showRoom(items.joined.get(room.name), room, room === openRoom);
  const known = chat.known.rooms.filter((name) => !chat.rooms.has(name));
  arrange(byId("known"), [...itemsOf("known", known), ...(chat.known.more ? [more] : [])]);
  byId("others").hidden = byId("known").hidden = known.length === 0;
  const unread = joined.filter((room) => room !== openRoom).reduce((sum, room) => sum + room.unread, 0);
  const all = joined.reduce((sum, room) => sum + room.unread, 0);
  document.title = `${all ? `(${all}) ` : ""}${openRoom ? `${openRoom.name} – ` : ""}Chat`;
  showCount(byId("elsewhere"), unread, "unread in other rooms");
}

/** An item for each name: that which there is, or a new one. */
function itemsOf(list, names) {
  const kept = items[list];
  items[list] = new Map(names.map((name) => [name, kept.get(name) ?? roomItem(name)]));
  return [...items[list].values()];
}

function roomItem(name) {
  const link = element("a", { href: `#room/${name}` }, element("span", { class: "name" }, name));
  link.append(element("span", { class: "badge", hidden: "" }));
  return element("li", {}, link);
}

function showRoom(item, room, isOpen) {
  const link = item.firstElementChild;
  if (isOpen) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
  showCount(link.lastElementChild, room.unread, "unread");
}

function showCount(badge, count, words) {
  badge.hidden = count === 0;
  badge.replaceChildren(count > 99 ? "99+" : String(count), element("span", { class: "visually-hidden" }, ` ${words}`));
}

/** Who is here, and by which worker. A service that keeps no presence does not say. */
export function drawMembers(room) {
  const members = [...(room.members ?? [])].sort(([one], [other]) => one.localeCompare(other));
  byId("members").replaceChildren(
    ...members.map(([user, worker]) => {
      const avatar = element("span", { class: "avatar", "aria-hidden": "true" }, initial(user));
      avatar.style.setProperty("--hue", colour(user));
      const name = element("span", { class: "name" }, user);
      if (user === room.user) name.append(element("span", { class: "muted small" }, " you"));
      return element("li", {}, avatar, name, element("span", { class: "worker" }, worker ?? ""));
    }),
  );
  const people = byId("people-button");
  people.textContent = room.members ? `${members.length} here` : "Room";
}
