// The lists beside the conversation: the rooms that one is in, those that there are, and who is here.

import { byId, colour, element, initial } from "./elements.js";

export function drawRooms(chat, openRoom) {
  const joined = [...chat.rooms.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
  byId("joined").replaceChildren(...joined.map((room) => roomItem(room, room === openRoom)));
  const known = chat.known.rooms.filter((name) => !chat.rooms.has(name));
  byId("known").replaceChildren(
    ...known.map((name) => element("li", {}, element("a", { href: `#room/${name}` }, name))),
    ...(chat.known.more ? [element("li", { class: "muted small" }, "There are more: write how the name begins.")] : []),
  );
  byId("others").hidden = byId("known").hidden = known.length === 0;
  const unread = joined.filter((room) => room !== openRoom).reduce((sum, room) => sum + room.unread, 0);
  const all = joined.reduce((sum, room) => sum + room.unread, 0);
  document.title = `${all ? `(${all}) ` : ""}${openRoom ? `${openRoom.name} – ` : ""}Chat`;
  showCount(byId("elsewhere"), unread, "unread in other rooms");
}

function roomItem(room, isOpen) {
  const link = element("a", { href: `#room/${room.name}` }, element("span", { class: "name" }, room.name));
  if (isOpen) link.setAttribute("aria-current", "page");
  const count = element("span", { class: "badge" });
  showCount(count, room.unread, "unread");
  link.append(count);
  return element("li", {}, link);
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
