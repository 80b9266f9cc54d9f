"""The chat page in a real Chromium, on a real stack with two workers."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from deploy.local import records
from distributed_websocket.auth import issue_token
from tests.browser import axe_core, chromium, needs_axe
from tests.e2e.person import DESKTOP, IN_TIME_MS, PASSWORD, PHONE, Person, person
from tests.e2e.project_copy import ProjectCopy, wait_until

SCREENSHOTS = Path(__file__).parent / "screenshots"

AGAIN = 4001
"""A close code after which a client comes back."""

Come = Callable[..., Person]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def come(browser: Browser, stack: ProjectCopy) -> Iterator[Come]:
    """Somebody with a browser profile of their own, gone at the end; no script of theirs may have failed."""
    came: list[Person] = []

    def one(name: str, device: Mapping[str, Any] = DESKTOP, *, alone: bool = False, **options: Any) -> Person:
        """`alone`: there is no other one of that name in this module."""
        name = name if alone else f"{name}-{secrets.token_hex(2)}"
        somebody = person(browser, name, f"http://127.0.0.1:{stack.layout.web_port}", device, **options)
        came.append(somebody)
        return somebody

    yield one
    for somebody in came:
        somebody.page.context.close()
    assert [fault for somebody in came for fault in somebody.faults] == []


@pytest.fixture
def room() -> str:
    return f"room-{secrets.token_hex(3)}"


@pytest.fixture
def axe() -> None:
    needs_axe()


class Line:
    """The way of a page to the chat. While it is cut, each connection ends as soon as it is made."""

    def __init__(self, page: Page) -> None:
        self._is_cut = False
        self._connections: list[WebSocketRoute] = []
        page.route_web_socket("**/ws", self._connect)

    def _connect(self, connection: WebSocketRoute) -> None:
        if self._is_cut:
            connection.close(code=AGAIN)
        else:
            connection.connect_to_server()
            self._connections.append(connection)

    def cut(self) -> None:
        self._is_cut = True
        for connection in self._connections:
            connection.close(code=AGAIN)
        self._connections.clear()

    def mend(self) -> None:
        self._is_cut = False


def on_different_workers(come: Come, room: str) -> tuple[Person, Person]:
    ada, grace = come("ada"), come("grace")
    for somebody in (ada, grace):
        somebody.enter(room)
    grace.move_to_another_worker_than(ada)
    return ada, grace


# What it looks like: first, while there are no rooms of other tests in the list


PEOPLE = {"light": ("ada", "grace", "katherine", "barbara"), "dark": ("alan", "edsger", "donald", "niklaus")}

CONVERSATION = [
    (1, "Morning! Is the new balancer live?"),
    (0, "Since nine. Nobody noticed the switch."),
    (1, "I just restarted chat-2 to see what happens"),
    (1, "My page said “Reconnecting…” for half a second 👀"),
    (0, "And then “caught up”? That is the log: what you missed is replayed, in order, once."),
    (2, "Checked it against the ledger. 4,812 messages, none missing, none twice."),
    (0, "🎉"),
    (2, "Coffee?"),
]


@pytest.mark.usefixtures("log")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_in_any_state_and_each_is_photographed(come: Come, axe: None, scheme: str) -> None:
    """The pictures are for people to look at: docs/images has some of them."""
    people = [come(name, alone=True, color_scheme=scheme) for name in PEOPLE[scheme][:3]]
    ada, grace, katherine = people
    phone = come(PEOPLE[scheme][3], PHONE, alone=True, color_scheme=scheme)
    room = {"light": "operations", "dark": "night-shift"}[scheme]

    def look(somebody: Person, state: str) -> None:
        somebody.photograph(SCREENSHOTS / f"{state}-{scheme}.png")
        assert somebody.violations() == [], state

    ada.open()
    expect(ada.page.locator("#username")).to_be_focused()
    look(ada, "sign-in")
    ada.page.locator("#username").fill("nobody")
    ada.page.locator("#password").fill("not the password")
    ada.page.get_by_role("button", name="Sign in").click()
    expect(ada.page.locator("#account-error")).not_to_be_empty()
    look(ada, "sign-in-error")
    for somebody in people:
        somebody.enter(room)
    for name in ("design", "help", "reading-club"):
        assert ada.page.request.post(f"{ada.address}/api/rooms", data={"name": name}).ok
    grace.move_to_another_worker_than(ada)
    for name in ("lobby", room):
        ada.open(f"/#room/{name}")
        ada.is_connected()
    for number, text in CONVERSATION:
        people[number].say(text)
        for somebody in people:
            somebody.sees(text)
    phone.enter(room)
    phone.sees("Coffee?")
    katherine.page.locator("#joined, #known").get_by_text("lobby").click()
    for text in ("Welcome, all", "Say hello if you are new"):
        katherine.say(text)
    expect(ada.page.get_by_role("link", name=re.compile(r"^lobby \d+ unread$"))).to_be_visible(timeout=IN_TIME_MS)
    expect(ada.page.locator("#members .worker:empty")).to_have_count(0, timeout=IN_TIME_MS)
    grace.page.locator("#text").press_sequentially("Yes")
    expect(ada.page.locator("#typing")).not_to_be_empty(timeout=IN_TIME_MS)
    look(ada, "desktop")
    look(phone, "phone")
    phone.page.get_by_role("button", name=" here").click()
    expect(phone.page.locator("#people")).to_be_visible()
    look(phone, "phone-people")
    phone.page.get_by_role("button", name="Close").click()
    phone.page.get_by_role("link", name="Rooms").click()
    grace.say("Already on my way")
    expect(phone.page.get_by_role("link", name=f"{room} 1 unread")).to_be_visible(timeout=IN_TIME_MS)
    look(phone, "phone-rooms")
    phone.page.locator("#room-name").fill("No such, name!")
    expect(phone.page.locator("#find-error")).not_to_be_empty()
    look(phone, "phone-rooms-error")
    # What a lost connection looks like; that it is shown is the business of other tests.
    grace.page.evaluate(
        """() => {
          document.body.dataset.connection = "reconnecting";
          document.getElementById("connection").textContent = "Reconnecting… What you write is sent then.";
        }"""
    )
    look(grace, "reconnecting")


# Coming in


def test_one_signs_up_comes_back_and_signs_out(come: Come) -> None:
    ada = come("ada")
    ada.open()
    page = ada.page
    page.locator("#username").fill(ada.name)
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    ada.is_connected()
    expect(page.get_by_role("heading", name="lobby")).to_be_visible()
    page.reload()
    ada.is_connected()
    stored: str = page.evaluate("JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie")
    assert "eyJ" not in stored, "no token where a script could read it"
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_what_is_wrong_with_a_sign_in_is_said_in_words(come: Come) -> None:
    ada = come("ada")
    ada.has_account()
    ada.page.context.clear_cookies()
    ada.open()
    page = ada.page
    page.locator("#username").fill(ada.name)
    page.locator("#password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert").filter(has_text="Wrong user name or password.")).to_be_visible()
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("alert").filter(has_text="This name is taken.")).to_be_visible()


# Talking


@pytest.mark.usefixtures("log")
def test_two_people_on_different_workers_talk(come: Come, room: str) -> None:
    ada, grace = on_different_workers(come, room)
    ada.say("Good morning")
    grace.sees("Good morning")
    ada.all_is_stored()
    expect(ada.page.locator("#messages .mine .state")).to_contain_text("stored")
    expect(grace.page.locator("#messages .author")).to_have_text(ada.name)
    expect(grace.page.locator("#messages time")).to_have_attribute("datetime", re.compile(r"^\d{4}-\d\d-\d\dT"))
    ada.page.locator("#text").press_sequentially("and")
    expect(grace.page.locator("#typing")).to_have_text(f"{ada.name} is typing…", timeout=IN_TIME_MS)
    for one, other in ((ada, grace), (grace, ada)):
        listed = one.page.locator("#members li", has_text=other.name)
        expect(listed.locator(".worker")).to_have_text(other.worker, timeout=IN_TIME_MS)


def test_a_new_room_is_in_the_list_of_others_at_once_and_unread_messages_are_counted(come: Come, room: str) -> None:
    ada, grace = come("ada"), come("grace")
    grace.enter("lobby")
    ada.enter("lobby")
    ada.page.get_by_label("Find or create a room").fill(room.replace("-", " ").upper())
    ada.page.get_by_role("button", name=f"Create “{room}”").click()
    expect(ada.page.get_by_role("heading", name=room)).to_be_visible()
    grace.page.locator("#known").get_by_text(room).click()
    expect(grace.page.get_by_role("heading", name=room)).to_be_visible()
    grace.page.locator("#joined").get_by_text("lobby").click()
    for number in (1, 2):
        ada.say(f"message {number}")
    link = grace.page.get_by_role("link", name=re.compile(rf"^{room} 2 unread$"))
    expect(link).to_be_visible(timeout=IN_TIME_MS)
    expect(grace.page).to_have_title(re.compile(r"^\(\d+\) lobby"))
    link.click()
    grace.sees("message 2")
    expect(grace.page.get_by_role("link", name=room, exact=True)).to_be_visible()


@pytest.mark.usefixtures("log")
def test_what_waits_on_a_phone_is_unread_until_it_is_seen(come: Come, room: str) -> None:
    ada, grace = come("ada"), come("grace", PHONE)
    grace.enter(room)
    ada.enter(room)
    grace.page.get_by_role("link", name="Rooms").click()
    ada.say("while the list is shown")
    expect(grace.page.get_by_role("link", name=f"{room} 1 unread")).to_be_visible(timeout=IN_TIME_MS)
    # As when one comes back from another app. What it draws is drawn two frames later.
    grace.page.evaluate(
        """() => {
          document.dispatchEvent(new Event("visibilitychange"));
          return new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
        }"""
    )
    ada.say("and still")
    link = grace.page.get_by_role("link", name=f"{room} 2 unread")
    expect(link).to_be_visible(timeout=IN_TIME_MS)
    link.click()
    grace.sees("and still")
    grace.page.get_by_role("link", name="Rooms").click()
    expect(grace.page.get_by_role("link", name=room, exact=True)).to_be_visible()


@pytest.mark.usefixtures("log")
def test_what_was_said_before_comes_with_scrolling_up(come: Come, room: str) -> None:
    ada, grace = come("ada"), come("grace")
    ada.enter(room)
    sent = [f"message {number}" for number in range(130)]
    ada.page.evaluate(
        """async ([topic, texts]) => {
          const { Client } = await import("/static/client.js");
          const client = new Client(`ws://${location.host}/ws`);
          await client.connect();
          for (const text of texts) await client.send(topic, { text });
          await client.close();
        }""",
        [f"room/{room}", sent],
    )
    grace.enter(room)
    grace.sees(sent[-1])
    assert len(grace.texts()) < len(sent)
    scroller = grace.page.locator("#scroller")

    def scroll_up() -> bool:
        scroller.evaluate("element => element.scrollTop = 0")
        return len(grace.texts()) == len(sent)

    wait_until(scroll_up, "the whole history is loaded")
    assert grace.texts() == sent
    expect(grace.page.locator("#begin")).to_have_text("This is the beginning.")


@pytest.mark.usefixtures("log")
@pytest.mark.timeout(240)
def test_no_message_is_missing_on_either_page_when_a_worker_is_killed(
    come: Come, room: str, stack: ProjectCopy
) -> None:
    ada, grace = on_different_workers(come, room)
    wait_until(lambda: stack.run("ps").returncode == 0, "both workers work")
    said = [f"{number} before" for number in range(3)]
    for text in said:
        ada.say(text)
    grace.sees(said[-1])
    killed = ada.worker
    os.kill(records.live_processes(stack.root)[killed].pid, signal.SIGKILL)
    for number in range(10):
        (grace, ada)[number % 2].say(f"{number} meanwhile")
        said.append(f"{number} meanwhile")
    expect(ada.page.locator("#connection")).to_contain_text("Caught up: ", timeout=IN_TIME_MS)
    ada.is_connected()
    for somebody in (ada, grace):
        wait_until(lambda who=somebody: sorted(who.texts()) == sorted(said), f"{somebody.name} sees everything")  # type: ignore[misc]
        somebody.all_is_stored()
    assert ada.texts() == grace.texts(), "in the same order"
    wait_until(lambda: stack.run("ps").returncode == 0, "everything works again", 60)


def test_a_message_that_is_refused_says_so_and_can_be_sent_again(come: Come, room: str) -> None:
    ada = come("ada")
    refused: list[str] = []

    def between(route: WebSocketRoute) -> None:
        server = route.connect_to_server()

        def from_page(text: str | bytes) -> None:
            message = json.loads(text)
            if message["type"] == "send" and "data" in message and not refused and "ref" in message:
                refused.append(message["ref"])
                error = {"type": "error", "code": "not_allowed", "detail": "not in this room", "ref": message["ref"]}
                route.send(json.dumps(error))
            else:
                server.send(text)

        route.on_message(from_page)

    ada.page.route_web_socket("**/ws", between)
    ada.enter(room)
    ada.say("may I?")
    failed = ada.page.locator("[data-state=failed]")
    expect(failed).to_contain_text("Not sent. Not in this room.")
    if axe_core() is not None:
        assert ada.violations() == []
    failed.get_by_role("button", name="Try again").click()
    expect(ada.page.locator("#messages .mine .state")).to_contain_text("stored")
    assert ada.texts() == ["may I?"]


# Safety


@pytest.mark.usefixtures("log")
@pytest.mark.timeout(240)
def test_an_expired_token_is_asked_for_in_words_and_nothing_is_missing_then(
    come: Come, room: str, stack: ProjectCopy
) -> None:
    ada, grace = come("ada"), come("grace")
    ada.enter(room)
    grace.enter(room)
    secret = next(line for line in (stack.root / ".env").read_text().splitlines() if "TOKEN_SECRET" in line)
    short = issue_token(ada.name, secret=secret.split("=", 1)[1], lifetime_seconds=8)
    ada.page.context.add_cookies(
        [{"name": "access_token", "value": short, "url": ada.address, "expires": time.time() + 8, "httpOnly": True}]
    )
    ada.page.reload()
    ada.is_connected()
    dialog = ada.page.get_by_role("dialog", name="Your sign-in has expired")
    expect(dialog).to_be_visible(timeout=IN_TIME_MS)
    if axe_core() is not None:
        assert ada.violations() == []
    grace.say("said while you were asked")
    dialog.get_by_label("Password").fill("not the password")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_role("alert")).to_have_text("Wrong user name or password.")
    dialog.get_by_label("Password").fill(PASSWORD)
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog).to_be_hidden()
    expect(ada.page.locator("#connection")).to_contain_text("Caught up: ", timeout=IN_TIME_MS)
    ada.is_connected()
    ada.sees("said while you were asked")
    ada.say("I am back")
    grace.sees("I am back")


@pytest.mark.usefixtures("log")
def test_what_waits_to_be_sent_is_not_said_by_whoever_signs_in_meanwhile(come: Come, room: str) -> None:
    """Two tabs of one browser share the cookie, and so who they are."""
    ada = come("ada")
    line = Line(ada.page)
    ada.enter(room)
    line.cut()
    expect(ada.page.locator("#connection")).to_contain_text("Reconnecting")
    ada.say("the word of ada")
    grace = Person(f"grace-{secrets.token_hex(2)}", ada.page.context.new_page(), ada.address, ada.faults)
    grace.enter(room)
    line.mend()
    expect(ada.page.locator("#me")).to_have_text(grace.name, timeout=IN_TIME_MS)
    grace.say("the word of grace")
    for tab in (ada, grace):
        tab.sees("the word of grace")
        assert tab.texts() == ["the word of grace"]


def test_the_question_for_the_password_stays_until_it_is_answered(come: Come, room: str) -> None:
    ada = come("ada")
    line = Line(ada.page)
    ada.enter(room)
    line.cut()
    ada.page.route("**/api/session", lambda route: route.fulfill(json={"username": None}))
    dialog = ada.page.get_by_role("dialog", name="Your sign-in has expired")
    expect(dialog).to_be_visible(timeout=IN_TIME_MS)
    password = dialog.get_by_label("Password")
    for closes_on_escape in (False, True):
        if closes_on_escape:  # as in a browser that does not know the attribute
            dialog.evaluate("dialog => dialog.removeAttribute('closedby')")
        for _ in range(2):
            ada.page.keyboard.press("Escape")
            expect(dialog).to_be_visible()
            expect(password).to_be_focused()
    ada.page.unroute("**/api/session")
    line.mend()
    password.fill(PASSWORD)
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog).to_be_hidden()
    ada.is_connected()


HOSTILE = [
    "<script>window.pwned = 1</script>",
    '<img src=x onerror="window.pwned = 1">',
    "javascript:window.pwned=1 <a href='javascript:window.pwned=1'>here</a>",
    "{{7*7}} ${7*7} &lt;b&gt;bold&lt;/b&gt; </textarea></li></ol><h1>",
    "W" * 3_000,
    "مرحبا بكم في الغرفة (abc) \u202etxt.exe",
    "👩‍👩‍👧‍👦🏳️‍🌈" * 40 + "Z̸̛͓̜͔̬̺̈́a̴l̷g̶o̵",
]


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_whatever_somebody_writes_is_shown_as_text(come: Come, room: str, device: Mapping[str, Any]) -> None:
    ada, grace = come("ada"), come("grace", device)
    ada.enter(room)
    grace.enter(room)
    for text in HOSTILE:
        ada.say(text)
    grace.sees(HOSTILE[-1])
    wait_until(lambda: len(grace.texts()) == len(HOSTILE), "all of it is there")
    assert grace.texts() == HOSTILE
    for somebody in (ada, grace):
        page = somebody.page
        assert page.evaluate("window.pwned") is None
        assert page.locator("#messages :is(script, img, a, h1)").count() == 0
        wider: bool = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        too_wide: bool = page.evaluate("scroller.scrollWidth > scroller.clientWidth")
        assert not wider
        assert not too_wide
    expect(grace.page.locator("#messages .text").nth(5)).to_have_css("direction", "rtl")


@pytest.mark.parametrize(
    "written", ["<img src=x onerror='window.pwned=1'>", "%", "Lobby"], ids=["markup", "malformed", "capital"]
)
def test_what_is_no_room_name_in_the_address_leads_to_the_lobby(come: Come, written: str) -> None:
    ada = come("ada")
    ada.has_account()
    ada.open(f"/#room/{written}")
    expect(ada.page.locator("#notice")).to_contain_text("No room has such a name")
    expect(ada.page.get_by_role("heading", name="lobby")).to_be_visible()
    expect(ada.page.locator("#door")).to_be_hidden()
    assert ada.page.url == f"{ada.address}/#room/lobby"
    assert ada.page.evaluate("window.pwned") is None


class _Elsewhere(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>elsewhere</title>")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The address of a page of somebody else's, on the same machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_a_page_of_another_origin_is_refused_by_the_handshake(come: Come, room: str, elsewhere: str) -> None:
    """It is of the same site, so the browser sends the cookie along: the Origin decides."""
    ada = come("ada")
    ada.enter(room)
    connects = """address => new Promise((resolve) => {
      const socket = new WebSocket(`${address.replace("http", "ws")}/ws`, ["chat.v1"]);
      socket.onopen = () => resolve("open");
      socket.onclose = () => resolve("refused");
    })"""
    assert ada.page.evaluate(connects, ada.address) == "open"
    ada.page.goto(elsewhere)
    assert ada.page.evaluate(connects, ada.address) == "refused"


def test_the_page_holds_to_a_policy_without_inline_scripts_and_styles(come: Come) -> None:
    ada = come("ada")
    policy = ada.page.goto(ada.address).header_value("content-security-policy")  # type: ignore[union-attr]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


# For everybody


def test_everything_can_be_done_with_the_keyboard_alone(come: Come, room: str) -> None:
    ada = come("ada")
    ada.has_account()
    ada.page.context.clear_cookies()
    ada.open()
    page, keys = ada.page, ada.page.keyboard

    def go_to(selector: str, key: str = "Tab") -> None:
        """Until it has the focus, and shows that it has."""
        for _ in range(40):
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"nothing shows that {selector} has the focus"
                return
            keys.press(key)
        raise AssertionError(f"{key} does not lead to {selector}")

    expect(page.locator("#username")).to_be_focused()
    keys.type(ada.name)
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    ada.is_connected()
    expect(page.locator("#text")).to_be_focused()
    go_to("#room-name", "Shift+Tab")
    keys.type(room)
    keys.press("Enter")
    expect(page.get_by_role("heading", name=room)).to_be_visible()
    expect(page.locator("#text")).to_be_focused()
    keys.type("one line")
    keys.press("Shift+Enter")
    keys.type("and another")
    keys.press("Enter")
    expect(page.locator("#messages .text")).to_have_text("one line\nand another")
    go_to("#scroller", "Shift+Tab")
    go_to("#people-button", "Shift+Tab")
    keys.press("Enter")
    expect(page.locator("#people")).to_be_hidden()
    go_to('a[href="#room/lobby"]', "Shift+Tab")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="lobby")).to_be_visible()
    go_to("#sign-out", "Shift+Tab")
    keys.press("Enter")
    expect(page.locator("#username")).to_be_focused()


@pytest.mark.usefixtures("log")
def test_a_message_elsewhere_leaves_the_focus_in_the_list_of_rooms(come: Come, room: str) -> None:
    ada, grace = come("ada"), come("grace")
    grace.enter(room)
    grace.open("/#room/lobby")
    grace.is_connected()
    ada.enter(room)
    for name, others in (("lobby", "1 unread"), (room, "2 unread")):
        link = grace.page.locator(f'#joined a[href="#room/{name}"]')
        link.focus()
        ada.say(f"makes it {others}")
        expect(grace.page.get_by_role("link", name=f"{room} {others}")).to_be_visible(timeout=IN_TIME_MS)
        expect(link).to_be_focused()
        expect(grace.page.locator("#joined [aria-current=page]")).to_have_attribute("href", "#room/lobby")


@pytest.mark.usefixtures("log")
def test_a_screen_reader_is_told_what_others_say_and_not_what_is_loaded(come: Come, room: str) -> None:
    ada, grace = come("ada"), come("grace")
    ada.enter(room)
    ada.say("of the past")
    ada.all_is_stored()
    grace.enter(room)
    grace.sees("of the past")
    spoken = grace.page.locator("#announcer")
    expect(spoken).to_be_empty()
    ada.say("of now")
    expect(spoken).to_have_text(f"{ada.name}: of now", timeout=IN_TIME_MS)
    expect(spoken).to_have_role("status")
