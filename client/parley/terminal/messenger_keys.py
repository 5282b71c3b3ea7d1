"""The keys of the messenger. What is typed goes to the field; the list takes the arrows while it is active."""

from collections.abc import Callable
from itertools import islice
from typing import Protocol

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.filters import Condition, FilterOrBool
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

HELP = """\
Keys: Tab moves between list and field, and completes commands, names and mentions. Enter opens or sends.
Alt-Enter begins a line.
PageUp and PageDown scroll. Home and End in an empty field: the first unread message, the latest one. Esc goes back.
Ctrl-C leaves. Ctrl-Z stops the chat until fg. Ctrl-L draws the screen anew."""


class Deeds(Protocol):
    """What the keys do."""

    in_list: bool

    def open_chosen(self) -> None:
        """Open the chosen conversation."""

    def send(self) -> None:
        """Take what is in the field."""

    def leave(self) -> None:
        """End the chat."""

    def stop(self) -> None:
        """Stop the chat until the shell lets it go on."""

    def draw_anew(self) -> None:
        """Draw everything again."""

    def back(self) -> None:
        """Close the notes, or go to the list, or back to the field."""

    def choose(self, by: int) -> None:
        """Choose another conversation."""

    def scroll(self, screens: int) -> None:
        """Scroll the thread, or the notes if they are longer than their place."""

    def to_beginning(self) -> None:
        """Show the first unread message."""

    def to_end(self) -> None:
        """Show the latest message."""


def make_keys(deeds: Deeds, field: Buffer, guarded: Callable[[Callable[[], None]], None]) -> KeyBindings:
    """Return the bindings. `guarded` calls what a key does."""
    keys = KeyBindings()
    in_list = Condition(lambda: deeds.in_list)
    is_empty = Condition(lambda: not field.text)
    completing = Condition(lambda: field.complete_state is not None)

    def bind(do: Callable[[], None], *names: str, filter: FilterOrBool = True) -> None:
        for name in names:

            @keys.add(name, filter=filter)
            def _(event: KeyPressEvent) -> None:
                guarded(do)

    bind(deeds.leave, "c-c", "<sigint>")
    bind(deeds.leave, "c-d", filter=is_empty)
    bind(lambda: deeds.scroll(-1), "pageup")
    bind(lambda: deeds.scroll(1), "pagedown")
    bind(deeds.to_beginning, "c-home")
    bind(deeds.to_end, "c-end")
    bind(deeds.to_beginning, "home", filter=is_empty & ~in_list)
    bind(deeds.to_end, "end", filter=is_empty & ~in_list)
    bind(lambda: deeds.choose(-1), "up", filter=in_list)
    bind(lambda: deeds.choose(1), "down", filter=in_list)
    bind(lambda: deeds.choose(-(10**6)), "home", filter=in_list)
    bind(lambda: deeds.choose(10**6), "end", filter=in_list)
    bind(deeds.open_chosen, "enter", filter=in_list)
    bind(deeds.send, "enter", filter=~in_list)
    bind(deeds.draw_anew, "c-l")
    bind(deeds.stop, "c-z")

    @keys.add("tab")
    def _(event: KeyPressEvent) -> None:
        if field.complete_state is not None:
            field.complete_next()
        elif not deeds.in_list and (field.document.text_before_cursor.startswith("/") or _can_complete(field)):
            field.start_completion(insert_common_part=True)
        else:
            deeds.in_list = not deeds.in_list

    @keys.add("s-tab")
    def _(event: KeyPressEvent) -> None:
        if field.complete_state is not None:
            field.complete_previous()
        else:
            deeds.in_list = not deeds.in_list

    @keys.add("left", filter=is_empty & ~in_list)
    def _(event: KeyPressEvent) -> None:
        deeds.in_list = True

    @keys.add("right", filter=in_list)
    def _(event: KeyPressEvent) -> None:
        deeds.in_list = False

    @keys.add("escape", filter=completing)
    def _(event: KeyPressEvent) -> None:
        field.cancel_completion()

    bind(deeds.back, "escape", filter=~completing)

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        field.insert_text("\n")

    return keys


def _can_complete(field: Buffer) -> bool:
    """Return whether there is something to complete at the cursor. A name that stands there whole is nothing."""
    document, event = field.document, CompleteEvent(completion_requested=True)
    before, found = document.text_before_cursor, field.completer.get_completions(document, event)
    whole = [before[len(before) + one.start_position :] == one.text for one in islice(found, 2)]
    return bool(whole) and whole != [True]
