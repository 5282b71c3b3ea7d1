"""What is on the messenger's screen at a moment, and what the keys do with it.

Drawing changes nothing but the place in the thread. After each drawing, what was on the screen is marked as read.
"""

from collections.abc import Callable, Iterable
from datetime import date, datetime

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory

from parley import EVERYONE, ParleyClient, Target
from parley.chat import StatusLevel, plural, status_line
from parley.terminal.cells import cut, wrap
from parley.terminal.chat_view import ChatView
from parley.terminal.messenger_app import MessengerApp, Place
from parley.terminal.messenger_feed import MessengerFeed
from parley.terminal.messenger_keys import HELP, make_keys
from parley.terminal.messenger_layout import NARROW, Draw, Parts, make_layout
from parley.terminal.messenger_lines import Line, row_lines
from parley.terminal.messenger_list import ConversationList
from parley.terminal.messenger_notes import Notes
from parley.terminal.messenger_thread import Reading
from parley.terminal.screen import Words

STATUS_LINES = 2
SHORT = 12
OTHER_LINES = 6
RECALL_TEXT = "The Up key brings the text back into the field."
_STATUS = {StatusLevel.GOOD: "class:good", StatusLevel.BUSY: "class:busy", StatusLevel.BAD: "class:bad"}
_WELCOME = (
    "Choose a conversation with the arrow keys and Enter, or type /to NAME. Tab moves between list and field. "
    "/help lists the commands."
)


class Desk:
    """The screen of one chat."""

    def __init__(
        self,
        client: ParleyClient,
        view: ChatView,
        notes: Notes,
        put: Callable[[str], bool],
        earlier: Iterable[str],
        place: Place,
    ) -> None:
        """`put` takes a typed line, or returns false if too many wait. The arrow keys recall `earlier` lines."""
        self.in_list = view.target is None
        self._client = client
        self._view = view
        self._chats = view.chats
        self._notes = notes
        self._put = put
        self._list = ConversationList(view.chats)
        self._reading = Reading(view.chats)
        self._is_untouched = self._is_filling = False
        self.feed = MessengerFeed(client, view.chats, self.changed)
        self._field = Buffer(
            completer=Words(view), history=InMemoryHistory(list(earlier)), multiline=True, complete_while_typing=False
        )
        self._field.on_text_changed += lambda _: self._typed()
        self.app = MessengerApp(
            place,
            drawing=lambda: self._guarded(self._before_drawing),
            drawn=lambda: self._guarded(self._after_drawing),
            layout=make_layout(self._field, self._parts()),
            key_bindings=make_keys(self, self._field, self._guarded),
        )
        view.changed, view.followed, view.refused = self.changed, self.feed.follow, self._tell_where

    def changed(self) -> None:
        """Draw soon."""
        self._list.changed()
        self.app.invalidate()

    async def save_draft(self) -> None:
        """Store what is in the field, when the screen ends."""
        target, body = self._view.target, self._draft()
        if target is not None and body:
            await self.feed.save_draft(target, body)

    # ---- what the keys do

    def open_chosen(self) -> None:
        """Open the chosen conversation. What is in the field stays behind as a draft."""
        key = self._list.chosen
        if key is not None and key != self._chats.open_key:
            target = self._chats.target(key)
            if not self._put(f"/to {_name_of(target)}"):
                return
            self._keep_draft()
            self._notes.close()
        self.in_list = False

    def send(self) -> None:
        """Take the line in the field."""
        line = self._field.text.strip()
        if not line:
            return
        if not self._put(line):
            self._notes.add("class:bad", "Too many lines wait for the cluster. The line stays in the field.")
            self._field.insert_text("\n")  # if lines are pasted, the next one is not joined to it
            return
        self._notes.close()
        if line.split()[0] == "/help":
            self._notes.add("class:quiet", HELP)
        if self._view.target is not None and self._draft():
            self.feed.keep_draft(self._view.target, "")
            self._chats.draft_sent(self._chats.key_of(self._view.target))  # the divider goes, too
        self._fill("", after=True)
        self._reading.to_end()

    def leave(self) -> None:
        """End the chat."""
        if self.app.is_running and not self.app.is_done:
            self.app.exit()

    def stop(self) -> None:
        """Stop the chat until the shell lets it go on."""
        self.app.stop()

    def draw_anew(self) -> None:
        """Draw everything again."""
        self.app.draw_anew()

    def back(self) -> None:
        """Close the notes, or go to the list, or back to the field."""
        if self._notes:
            self._notes.close()
        else:
            self.in_list = not self.in_list

    def choose(self, by: int) -> None:
        """Choose another conversation."""
        self._list.move(by)

    def scroll(self, screens: int) -> None:
        """Scroll the notes if they are longer than their place, else the thread."""
        if self._notes.has_more:
            self._notes.scroll(-screens * max(1, self._most_notes() - 2))
        else:
            self._reading.scroll(screens)

    def to_beginning(self) -> None:
        """Show the first unread message."""
        self._reading.to_beginning()

    def to_end(self) -> None:
        """Show the latest message."""
        self._reading.to_end()

    # ---- the field

    def _typed(self) -> None:
        if self._is_filling:
            return
        self._is_untouched = False
        if self._field.text:
            self.in_list = False
            self._view.types(self._field.text)

    def _tell_where(self, line: str) -> None:
        """Say where a refused text is. It is not put back: the field may be that of another conversation by now."""
        if not line.startswith("/") or line.startswith("//"):
            self._notes.add("class:quiet", RECALL_TEXT)

    def _fill(self, text: str, *, after: bool = False) -> None:
        """Put a text into the field. `after` another one was taken, that one can be recalled."""
        self._is_filling = True
        try:
            if after:
                # Only an empty field that loads its history anew has the line, and a drawing would load it too late.
                self._field.reset(append_to_history=True)
                self._field.load_history_if_not_yet_loaded()
            self._field.set_document(Document(text))
            self._field.cancel_completion()
        finally:
            self._is_filling = False

    def _draft(self) -> str:
        """Return what is in the field, unless it is a command."""
        text = self._field.text.strip()
        return "" if text.startswith("/") and not text.startswith("//") else text

    def _keep_draft(self) -> None:
        key, body = self._chats.open_key, self._draft()
        if key is not None and self._chats.keep_draft(key, body):
            self.feed.keep_draft(self._chats.target(key), body)
        self._fill("")

    def _take_draft(self, body: str) -> None:
        """Put the stored draft into the field, unless something was typed there meanwhile."""
        if body and self._is_untouched and not self._field.text:
            self._fill(body)
            self._field.cursor_position = len(body)
        self._is_untouched = False

    # ---- drawing

    def _guarded(self, do: Callable[[], None]) -> None:
        """Do something. A defect ends the screen, so that the terminal is as it was before when it is told."""
        try:
            do()
        except Exception as error:
            if not self.app.is_running or self.app.is_done:
                raise
            self.app.exit(exception=error)

    def _drawn(self, draw: Callable[[int, int], list[Line]]) -> Draw:
        def guarded(room: int, height: int) -> list[Line]:
            lines: list[Line] = []
            self._guarded(lambda: lines.extend(draw(room, height)))
            return lines

        return guarded

    def _parts(self) -> Parts:
        return Parts(
            prompt=self._prompt,
            columns=self._columns,
            shows_list=lambda: self._is_wide() or self.in_list,
            shows_thread=lambda: self._is_wide() or not self.in_list,
            notes_height=lambda room: self._notes.height(room, self._most_notes()),
            status_height=lambda: len(self._status_lines(self._columns())),
            draw_list=self._drawn(self._draw_list),
            draw_title=self._drawn(self._draw_title),
            draw_thread=self._drawn(self._draw_thread),
            draw_notes=self._drawn(self._notes.draw),
            draw_status=self._drawn(lambda room, _: self._status_lines(room)),
        )

    def _columns(self) -> int:
        return self.app.output.get_size().columns

    def _is_wide(self) -> bool:
        return self._columns() >= NARROW

    def _most_notes(self) -> int:
        return max(3, (self.app.output.get_size().rows - OTHER_LINES) * 2 // 3)

    def _before_drawing(self) -> None:
        """Open the conversation to which typed lines go now."""
        self._reading.hide()
        target = self._view.target
        key = None if target is None else self._chats.key_of(target)
        if key == self._chats.open_key:
            return
        if target is None:
            self._chats.leave()
        else:
            key, fetch, _ = self._chats.open(target)
            self._reading.begin()
            self._is_untouched = True
            self.feed.open(target, fetch=fetch, opened=self._take_draft)
        self._list.choose(key or self._list.chosen)

    def _after_drawing(self) -> None:
        read, before_id = self._reading.after_drawing()
        if read is not None:
            self.feed.mark_read(*read)
            self.changed()
        if before_id is not None and self._chats.open_key is not None:
            self.feed.load(self._chats.target(self._chats.open_key), before_id)

    def _prompt(self) -> str:
        title = cut(self._view.title, max(4, self._columns() // 3))
        return f"{title}> " if title else "> "

    def _draw_list(self, room: int, height: int) -> list[Line]:
        return self._list.draw(room, height, _today(), active=self.in_list)

    def _draw_title(self, room: int, _: int) -> list[Line]:
        key = self._chats.open_key
        if key is None:
            return [(("class:title", cut(self._client.signed_in_as, room)),)]
        item = self._chats.item(key)
        title = " · ".join(part for part in (item.title, item.about, item.topic) if part)
        unread = self._chats.unread_in(key)
        more = "" if self._reading.at_end else f"  ▼ {plural(unread, 'new message')}" if unread else "  ▼ more below"
        title = cut(title, max(1, room - len(more) - 1))
        return [(("class:title", f" {title}"), ("class:divider", cut(more, room - 2)))]

    def _draw_thread(self, room: int, height: int) -> list[Line]:
        if self._chats.open_key is None:
            welcome: list[Line] = [(("class:quiet", f" {text}"),) for text in wrap(_WELCOME, room - 1)]
            return welcome[: max(0, height)]
        today, margin = _today(), 1 if room > NARROW // 3 else 0
        shown = self._reading.draw(
            lambda row: row_lines(row, room - margin, today), height, answering=self.feed.answering
        )
        above: list[Line] = [()] * (height - len(shown.lines))
        return [*above, *((("", " " * margin), *line) for line in shown.lines)]

    def _status_lines(self, room: int) -> list[Line]:
        level = status_line(self._client.state, None, 0.0).level
        most = STATUS_LINES if self.app.output.get_size().rows >= SHORT else 1
        lines = wrap(self._view.status_line, room)
        if len(lines) > most:
            lines[most - 1 :] = [cut(" ".join(lines[most - 1 :]), room)]
        style = _STATUS[level]
        return [((style, line),) for line in lines]


def _today() -> date:
    return datetime.now().astimezone().date()


def _name_of(target: Target) -> str:
    """Return a target as it is typed after /to."""
    if target == EVERYONE:
        return "everyone"
    return target.account or f"#{target.conversation_id}"
