"""The places of the messenger's screen: list at the left, thread at the right, the field and the status below.

Below NARROW columns there is one column: the list while it is chosen, else the thread. Every part may shrink to
nothing, so that a tiny terminal shows what fits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.layout import (
    BufferControl,
    ConditionalContainer,
    Dimension,
    Float,
    FloatContainer,
    HSplit,
    Layout,
    UIContent,
    UIControl,
    VSplit,
    Window,
)
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.layout.processors import BeforeInput, Processor, Transformation, TransformationInput
from prompt_toolkit.styles import Style

from parley.chat import safe_body
from parley.terminal.messenger_lines import Line

NARROW = 60
LIST_LEAST = 20
LIST_MOST = 36
FIELD_LINES = 6
MENU_LINES = 8

STYLE = Style.from_dict(
    {
        "quiet": "#888888",
        "own": "#888888 bold",
        "sender": "bold",
        "known": "#888888",
        "urgent": "ansired bold",
        "bad": "ansired",
        "busy": "ansiyellow",
        "good": "#888888",
        "divider": "ansiyellow",
        "unread": "bold",
        "mention": "ansicyan",
        "mentions-me": "ansiyellow bold",
        "chosen": "reverse",
        "title": "bold",
        "rule": "#888888",
    }
)

Draw = Callable[[int, int], Sequence[Line]]
"""Returns the lines of a part with this width and height."""


class Drawn(UIControl):
    """A part of the screen that a function draws."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    def create_content(self, width: int, height: int) -> UIContent:
        """Draw the part."""
        lines = self._draw(width, height)

        def line(at: int) -> StyleAndTextTuples:
            return list(lines[at])

        return UIContent(line, line_count=len(lines), show_cursor=False)


class SafeInput(Processor):
    """Shows what is typed or pasted as others see it: without characters that command a terminal or turn a line."""

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        """Replace the characters one by one, so that the cursor keeps its place."""
        shown = [(piece[0], safe_body(piece[1]), *piece[2:]) for piece in transformation_input.fragments]
        return Transformation(shown)


def list_width(columns: int) -> int:
    """Return the width of the list beside a thread."""
    return max(LIST_LEAST, min(LIST_MOST, columns // 3))


@dataclass(frozen=True, slots=True)
class Parts:
    """What is drawn where, and how large it is now."""

    prompt: Callable[[], str]
    columns: Callable[[], int]
    shows_list: Callable[[], bool]
    shows_thread: Callable[[], bool]
    notes_height: Callable[[int], int]
    status_height: Callable[[], int]
    draw_list: Draw
    draw_title: Draw
    draw_thread: Draw
    draw_notes: Draw
    draw_status: Draw


def make_layout(field: Buffer, parts: Parts) -> Layout:
    """Return the layout. The field always has the cursor."""

    def width_of_list() -> Dimension:
        return Dimension.exact(list_width(parts.columns())) if parts.shows_thread() else Dimension()

    def notes_height() -> int:
        beside = list_width(parts.columns()) + 1 if parts.shows_list() else 0
        return parts.notes_height(parts.columns() - beside)

    listed, threaded = Condition(parts.shows_list), Condition(parts.shows_thread)
    conversation = HSplit(
        [
            _part(parts.draw_title, lambda: 1),
            Window(Drawn(parts.draw_thread), height=Dimension(min=0, weight=1), always_hide_cursor=True),
            _part(parts.draw_notes, notes_height),
        ]
    )
    columns_ = VSplit(
        [
            ConditionalContainer(Window(Drawn(parts.draw_list), width=width_of_list, always_hide_cursor=True), listed),
            ConditionalContainer(Window(width=1, char="│", style="class:rule"), listed & threaded),
            ConditionalContainer(conversation, threaded),
        ],
        height=Dimension(min=0, weight=1),
    )
    entry = Window(
        BufferControl(field, input_processors=[SafeInput(), BeforeInput(parts.prompt, "class:title")]),
        height=Dimension(min=1, max=FIELD_LINES),
        dont_extend_height=True,
        wrap_lines=True,
    )
    menu = Float(CompletionsMenu(max_height=MENU_LINES, scroll_offset=1), xcursor=True, ycursor=True)
    whole = HSplit([columns_, _part(lambda width, _: [(("class:rule", "─" * width),)], lambda: 1), entry])
    return Layout(
        FloatContainer(HSplit([whole, _part(parts.draw_status, parts.status_height)]), [menu]), focused_element=entry
    )


def _part(draw: Draw, height: Callable[[], int]) -> Window:
    """Return a part that takes as many lines as it needs, and fewer if there are not enough."""

    def dimension() -> Dimension:
        wanted = height()
        return Dimension(min=0, max=wanted, preferred=wanted)

    return Window(Drawn(draw), height=dimension, always_hide_cursor=True)
