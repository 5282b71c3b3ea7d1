"""What people say in the screenshots of the window."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a scene."""

    mine: bool
    minutes_ago: float
    body: str
    sender: str = "ben"


BEN = (
    Said(False, 1495, "Are you on tonight?"),
    Said(True, 1493, "Yes, from ten. Ruth has the late round."),
    Said(False, 1490, "Good. The second pump makes a noise again, I put it on the list."),
    Said(False, 64, "Morning! Handover notes are here: https://wiki.ward.example/handover/2026-11-21 (two pages)"),
    Said(True, 58, "Thanks, read them. Did the lab call back about bed 7?"),
    Said(
        False,
        55,
        "Yes. Potassium is fine, they want another sample at noon. I have told Dana, she will take it with her"
        " when she goes down anyway.",
    ),
    Said(True, 41, "Perfect 👍"),
    Said(
        False,
        12,
        "One more thing: n2 gets its new disk at two. We should not notice, but if the line below turns"
        " yellow for a moment, that is why.",
    ),
    Said(True, 9, "Good to know. I will kill it myself if it does not 😄"),
    Said(True, 8, "Lunch at half past twelve?"),
    Said(False, 3, "🎉"),
    Said(False, 2, "Half past twelve it is."),
)
WARD_TALK = (
    Said(False, 70, "Bed 9 needs a second pair of hands at eleven.", "dana"),
    Said(False, 66, "I can come over after the round.", "ben"),
    Said(True, 61, "Thank you both. I will bring the monitor."),
    Said(False, 24, "Bed 12 is clean and made.", "dana"),
    Said(False, 17, "Bed 12 is ready, you can send her up.", "dana"),
    Said(True, 6, "She is on her way, with Ruth."),
    Said(True, 5, "Please tell me when she has arrived."),
)
LAST = {
    "chief.engineer": (True, 75, "Filter changed, pressure back to 3.2 bar.", 0),
    "dana": (False, 190, "On my way to the lab.", 0),
    "bridge": (True, 1700, "Pilot on board at 05:40.", 0),
    "lab-2": (False, 3000, "Results are in: https://lab.example/r/8812", 0),
    "ruth": (True, 9000, "See you on Monday!", 0),
}
