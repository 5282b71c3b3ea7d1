"""Colours, sizes and the grid. The two palettes follow the system. The contrast of text is at least 4.5 to 1."""

from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFont, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication

GRID = 8
COLUMN_WIDTH = 960  # of messages and of the field below them


@dataclass(frozen=True, slots=True)
class Theme:
    """One palette, as #rrggbb."""

    dark: bool
    window: str
    side: str
    raised: str
    border: str
    edge: str  # of what takes input: at least 3 to 1 on its ground
    text: str
    quiet: str
    accent: str
    on_accent: str
    accent_soft: str
    hover: str
    own: str
    own_text: str
    own_quiet: str
    own_link: str
    other: str
    other_text: str
    other_quiet: str
    link: str
    warn: str
    warn_soft: str
    warn_text: str
    bad: str
    bad_soft: str
    bad_text: str

    def color(self, name: str) -> QColor:
        """Return the colour of this name."""
        return QColor(str(getattr(self, name)))


LIGHT = Theme(
    dark=False,
    window="#fbfaf8",
    side="#f3f1ed",
    raised="#ffffff",
    border="#e3dfd8",
    edge="#8c8880",
    text="#22262b",
    quiet="#5d6167",
    accent="#1f6f6b",
    on_accent="#ffffff",
    accent_soft="#dcebe8",
    hover="#eae7e1",
    own="#d5e9e5",
    own_text="#17302e",
    own_quiet="#4a6663",
    own_link="#0d5752",
    other="#ffffff",
    other_text="#22262b",
    other_quiet="#666a70",
    link="#1a6865",
    warn="#9a6400",
    warn_soft="#fbf0d9",
    warn_text="#6e4800",
    bad="#b3382c",
    bad_soft="#fae5e1",
    bad_text="#8c2a20",
)

DARK = Theme(
    dark=True,
    window="#15191c",
    side="#1b2024",
    raised="#22282d",
    border="#39424a",
    edge="#75808a",
    text="#e6e8ea",
    quiet="#a7afb6",
    accent="#6fc2b8",
    on_accent="#0e2422",
    accent_soft="#22403d",
    hover="#262d32",
    own="#1f4a46",
    own_text="#e3f3f0",
    own_quiet="#a3c9c4",
    own_link="#a5e6dd",
    other="#252c31",
    other_text="#e6e8ea",
    other_quiet="#99a1a8",
    link="#86d3c9",
    warn="#e0b25a",
    warn_soft="#3a301b",
    warn_text="#f0d193",
    bad="#ef8a7c",
    bad_soft="#43251f",
    bad_text="#f7b5aa",
)


def system_theme() -> Theme:
    """Return the palette that matches the system's colour scheme."""
    scheme = QGuiApplication.styleHints().colorScheme()
    return DARK if scheme == Qt.ColorScheme.Dark else LIGHT


def scaled_font(font: QFont, factor: float, *, bold: bool = False) -> QFont:
    """Return a font whose size is relative to the desktop's font."""
    made = QFont(font)
    if font.pointSizeF() > 0:
        made.setPointSizeF(font.pointSizeF() * factor)
    else:
        made.setPixelSize(round(font.pixelSize() * factor))
    if bold:
        made.setWeight(QFont.Weight.DemiBold)
    return made


def apply_theme(app: QApplication, theme: Theme) -> None:
    """Apply the palette, and the spacing that widgets do not have by default, to every widget."""
    palette = QPalette()
    roles = {
        QPalette.ColorRole.Window: "window",
        QPalette.ColorRole.Base: "raised",
        QPalette.ColorRole.AlternateBase: "side",
        QPalette.ColorRole.Button: "raised",
        QPalette.ColorRole.ToolTipBase: "raised",
        QPalette.ColorRole.WindowText: "text",
        QPalette.ColorRole.Text: "text",
        QPalette.ColorRole.ButtonText: "text",
        QPalette.ColorRole.ToolTipText: "text",
        QPalette.ColorRole.PlaceholderText: "quiet",
        QPalette.ColorRole.Highlight: "accent",
        QPalette.ColorRole.HighlightedText: "on_accent",
        QPalette.ColorRole.Link: "link",
        QPalette.ColorRole.Accent: "accent",
    }
    for role, name in roles.items():
        palette.setColor(role, theme.color(name))
    for role in (QPalette.ColorRole.WindowText, QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, theme.color("quiet"))
    app.setPalette(palette)
    app.setStyleSheet(_STYLE.format(**{name: getattr(theme, name) for name in Theme.__slots__}))


_STYLE = """
QToolTip {{ color: {text}; background: {raised}; border: 1px solid {border}; padding: 8px; }}
QLineEdit {{ background: {raised}; border: 1px solid {edge}; border-radius: 8px; padding: 8px 12px;
    min-height: 20px; }}
QLineEdit:focus {{ border: 1px solid {accent}; }}
QPushButton {{ background: {raised}; border: 1px solid {border}; border-radius: 8px; padding: 8px 16px;
    min-height: 20px; }}
QPushButton:hover {{ background: {hover}; }}
QPushButton:focus {{ border: 1px solid {accent}; }}
QPushButton:checked {{ border: 2px solid {bad_text}; color: {bad_text}; padding: 7px 15px; }}
QPushButton:disabled {{ color: {quiet}; }}
QPushButton[primary="true"] {{ background: {accent}; color: {on_accent}; border: 1px solid {accent};
    font-weight: 600; }}
QPushButton[primary="true"]:focus {{ border: 2px solid {text}; padding: 7px 15px; }}
QPushButton[primary="true"]:disabled {{ background: {accent_soft}; color: {quiet}; border-color: {accent_soft}; }}
QPushButton[flat="true"] {{ background: transparent; border: 1px solid transparent; color: {link};
    padding: 8px; }}
QPushButton[flat="true"]:focus {{ border: 1px solid {accent}; }}
QPushButton[flat="true"]:hover {{ background: {hover}; }}
QLineEdit[readOnly="true"]:!focus {{ border: 1px solid {border}; }}
QComboBox {{ background: {raised}; border: 1px solid {edge}; border-radius: 8px; padding: 5px 12px; min-height: 20px; }}
QComboBox:focus {{ border: 1px solid {accent}; }}
QComboBox:disabled {{ color: {quiet}; border: 1px solid {border}; }}
QComboBox::drop-down {{ border: 0; width: 28px; }}
QComboBox QAbstractItemView {{ background: {raised}; border: 1px solid {border}; outline: 0;
    selection-background-color: {accent_soft}; selection-color: {text}; }}
QCheckBox {{ spacing: 8px; padding: 3px 0; }}
QCheckBox::indicator {{ width: 14px; height: 14px; border: 1px solid {edge}; border-radius: 4px;
    background: {raised}; }}
QCheckBox::indicator:checked {{ border: 1px solid {accent}; background: {accent}; }}
QCheckBox::indicator:disabled {{ border: 1px solid {border}; background: {side}; }}
QCheckBox:disabled {{ color: {quiet}; }}
QMenu {{ background: {raised}; border: 1px solid {border}; padding: 8px 0; }}
QMenu::item {{ padding: 8px 24px; }}
QMenu::item:selected {{ background: {accent_soft}; color: {text}; }}
QMenu::item:disabled {{ color: {quiet}; }}
QMenu::separator {{ height: 1px; background: {border}; margin: 4px 0; }}
QScrollBar:vertical {{ background: transparent; width: 12px; margin: 2px; }}
QScrollBar::handle:vertical {{ background: {edge}; border-radius: 4px; min-height: 32px; }}
QScrollBar::handle:vertical:hover {{ background: {quiet}; }}
QScrollBar::add-line:vertical, QScrollBar::sub-line:vertical {{ height: 0; }}
QScrollBar:horizontal {{ background: transparent; height: 12px; margin: 2px; }}
QScrollBar::handle:horizontal {{ background: {edge}; border-radius: 4px; min-width: 32px; }}
QScrollBar::handle:horizontal:hover {{ background: {quiet}; }}
QScrollBar::add-line:horizontal, QScrollBar::sub-line:horizontal {{ width: 0; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
QScrollBar::handle:vertical:disabled {{ background: transparent; }}
QDialog QListView {{ background: transparent; border: 1px solid transparent; border-radius: 8px; outline: 0; }}
QDialog QListView:focus {{ border: 1px solid {accent}; }}
QDialog QListView::item {{ padding: 8px 12px; border-radius: 8px; color: {text}; }}
QDialog QListView::item:selected {{ background: {accent_soft}; color: {text}; }}
QDialog QListView::item:hover:!selected {{ background: {hover}; }}
QListView#mentions {{ background: {raised}; border: 1px solid {edge}; border-radius: 8px; padding: 4px; outline: 0; }}
QListView#mentions::item {{ border-radius: 6px; }}
QListView#mentions::item:selected {{ background: {accent_soft}; }}
QListView#mentions::item:hover:!selected {{ background: {hover}; }}
QTableView {{ background: {raised}; border: 1px solid {border}; border-radius: 8px; outline: 0; }}
QTableView:focus {{ border: 1px solid {accent}; }}
QTableView::item {{ padding: 4px 12px; color: {text}; }}
QTableView::item:selected {{ background: {accent_soft}; color: {text}; }}
QHeaderView {{ background: {raised}; }}
QHeaderView::section {{ background: {raised}; color: {quiet}; border: 0; border-bottom: 1px solid {border};
    padding: 8px 15px; }}
QSplitter::handle {{ background: {border}; }}
"""
