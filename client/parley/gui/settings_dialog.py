"""The settings of the window in one dialog. A change counts at once, so there is nothing to confirm."""

import time
from collections.abc import Callable
from dataclasses import replace

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QComboBox, QGridLayout, QPushButton, QWidget

from parley.gui.colours import CHOICE_WORDS, ColourChoice, Colours
from parley.gui.controls import CheckBox, ChoiceBox
from parley.gui.direction import Sentence
from parley.gui.plain_dialog import PlainDialog
from parley.gui.quiet import in_an_hour, is_quiet, quiet_words, until_morning
from parley.gui.settings_keeper import SettingsKeeper
from parley.gui.theme import GRID, scaled_font
from parley.gui.window_settings import TEXT_PERCENTS, UNTIL_SWITCHED_OFF, Preview

LOOK_EVERY_MS = 5000
HIDDEN_MEANING = (
    "Others do not see whether you are connected, when you were last here, or that you type. "
    "You still see the others. This counts on all your devices."
)
_SIZE_WORDS = dict(zip(TEXT_PERCENTS, ("Small", "Usual", "Large", "Larger", "Largest"), strict=True))
_PREVIEW_WORDS = {
    Preview.ALL: "Name and text",
    Preview.NAMES: "Name only",
    Preview.NONE: "Neither name nor text",
}
_QUIET: tuple[tuple[str, Callable[[int], int]], ...] = (
    ("Off", lambda _now: 0),
    ("Until I switch it off", lambda _now: UNTIL_SWITCHED_OFF),
    ("For an hour", in_an_hour),
    ("Until tomorrow morning", until_morning),
)


class SettingsDialog(PlainDialog):
    """Colours and text, notifications, do-not-disturb, and presence."""

    hide_asked = Signal(bool)

    def __init__(
        self,
        keeper: SettingsKeeper,
        colours: Colours,
        parent: QWidget | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Show the settings in use."""
        super().__init__("Settings", parent)
        self._keeper = keeper
        self._colours = colours
        self._now_ms = now_ms
        value = keeper.value
        self.colours = _choice("Colours", [(words, choice) for choice, words in CHOICE_WORDS.items()], colours.choice)
        self.text_size = _choice("Text", [(_SIZE_WORDS[one], one) for one in TEXT_PERCENTS], value.text_percent)
        self.notify = _check("Notify me of new messages", on=value.notify)
        self.preview = _choice("Show", [(words, one) for one, words in _PREVIEW_WORDS.items()], value.preview)
        self.sound = _check("Play the sound of the system", on=value.sound)
        self.quiet = _choice("Do not disturb", [], None)
        self.urgent = _check("Urgent messages come through", on=value.urgent_when_quiet)
        self.hidden = _check("Hide me", on=False)
        self.hidden.setEnabled(False)
        self._show_quiet()
        self._compose()
        self._wire()
        self._enable()
        self.note.setText(keeper.problem)

    def show_hidden(self, hidden: bool) -> None:
        """Show whether the account is hidden, as the cluster says."""
        self.hidden.setChecked(hidden)
        self.hidden.setEnabled(True)
        self.note.setText(self._keeper.problem)

    def tell(self, text: str) -> None:
        """Say why the presence could not be asked for or changed."""
        self.note.setText(text)
        self.hidden.setEnabled(True)

    def _compose(self) -> None:
        meaning = Sentence(HIDDEN_MEANING)
        meaning.setFont(scaled_font(self.font(), 0.92))
        meaning.setMinimumHeight(meaning.heightForWidth(self.minimumWidth() - 6 * GRID))
        self.hidden.setAccessibleDescription(HIDDEN_MEANING)
        parts: tuple[tuple[str, tuple[QWidget, ...]], ...] = (
            ("Look", (self.colours, self.text_size)),
            ("Notifications", (self.notify, self.preview, self.sound)),
            ("Do not disturb", (self.quiet, self.urgent)),
            ("Presence", (self.hidden, meaning)),
        )
        named = (self.colours, self.text_size, self.preview)
        names_width = max(self.fontMetrics().horizontalAdvance(one.accessibleName()) for one in named)
        for title, widgets in parts:
            heading = Sentence(title, wraps=False)
            heading.setFont(scaled_font(self.font(), 1.0, bold=True))
            self.column.addSpacing(GRID)
            self.column.addWidget(heading)
            form = QGridLayout()
            form.setSpacing(GRID)
            form.setColumnMinimumWidth(0, names_width)
            form.setColumnStretch(1, 1)
            for row, widget in enumerate(widgets):
                if isinstance(widget, QComboBox) and widget.accessibleName() != title:
                    label = Sentence(widget.accessibleName(), wraps=False)
                    label.setBuddy(widget)
                    form.addWidget(label, row, 0)
                    form.addWidget(widget, row, 1)
                else:
                    form.addWidget(widget, row, 0, 1, 2)
            self.column.addLayout(form)
        close = QPushButton("Close")
        close.setDefault(True)
        close.clicked.connect(self.accept)
        self.end_with(close)

    def _wire(self) -> None:
        self.colours.activated.connect(lambda: self._colours.choose(ColourChoice(self.colours.currentData())))
        self.text_size.activated.connect(lambda: self._change(text_percent=self.text_size.currentData()))
        self.notify.clicked.connect(lambda on: self._change(notify=on))
        self.preview.activated.connect(lambda: self._change(preview=Preview(self.preview.currentData())))
        self.sound.clicked.connect(lambda on: self._change(sound=on))
        self.quiet.activated.connect(self._choose_quiet)
        self.urgent.clicked.connect(lambda on: self._change(urgent_when_quiet=on))
        self.hidden.clicked.connect(self._ask_hidden)
        timer = QTimer(self)
        timer.timeout.connect(self._look)
        timer.start(LOOK_EVERY_MS)

    def _change(self, **values: object) -> None:
        self._keeper.change(lambda settings: replace(settings, **values))  # type: ignore[arg-type]
        self.note.setText(self._keeper.problem)
        self._enable()

    def _enable(self) -> None:
        """Offer what notifications show and sound like only while there are any."""
        for widget in (self.preview, self.sound, self.quiet, self.urgent):
            widget.setEnabled(self._keeper.value.notify)

    def _choose_quiet(self, at: int) -> None:
        if at < len(_QUIET):
            self._change(quiet_until_ms=_QUIET[at][1](self._now_ms()))
            self._show_quiet()

    def _show_quiet(self) -> None:
        """Show do-not-disturb as it is. A time that was chosen is one more line."""
        self.quiet.clear()
        self.quiet.addItems([words for words, _ in _QUIET])
        until = self._keeper.value.quiet_until_ms
        if until == UNTIL_SWITCHED_OFF:
            self.quiet.setCurrentIndex(1)
        elif is_quiet(self._keeper.value, self._now_ms()):
            self.quiet.addItem(f"On {quiet_words(self._keeper.value, self._now_ms())}")
            self.quiet.setCurrentIndex(len(_QUIET))

    def _look(self) -> None:
        """Show that do-not-disturb has ended by itself."""
        if self.quiet.currentIndex() == len(_QUIET) and not is_quiet(self._keeper.value, self._now_ms()):
            self._show_quiet()

    def _ask_hidden(self, hidden: bool) -> None:
        self.hidden.setChecked(not hidden)  # until the cluster has it
        self.hidden.setEnabled(False)
        self.note.setText("Asking the cluster…")
        self.hide_asked.emit(hidden)


def _check(words: str, *, on: bool) -> CheckBox:
    box = CheckBox(words)
    box.setChecked(on)
    return box


def _choice(name: str, items: list[tuple[str, object]], chosen: object) -> ChoiceBox:
    box = ChoiceBox()
    box.setAccessibleName(name)
    box.setMinimumHeight(4 * GRID)
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    for words, value in items:
        box.addItem(words, value)
        if value == chosen:
            box.setCurrentIndex(box.count() - 1)
    return box
