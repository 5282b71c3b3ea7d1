"""What people say in the screenshots of the window, in a language that is written from the left and in two others."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a scene."""

    mine: bool
    minutes_ago: float
    body: str
    sender: str = "ben"
    urgent: bool = False


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


@dataclass(frozen=True, slots=True)
class Words:
    """Everything that is said. `names` are display names that differ from the usual ones."""

    ben: tuple[Said, ...]
    ward: str
    ward_talk: tuple[Said, ...]
    last: Mapping[str, tuple[bool, float, str, int]]
    note: str
    names: Mapping[str, str] = field(default_factory=dict)


ENGLISH = Words(BEN, "Ward 4", WARD_TALK, LAST, "Ask about the spare key.")
FROM_THE_RIGHT = Words(
    ben=(
        Said(False, 1490, "جيد. المضخة الثانية تصدر صوتا مرة أخرى، أضفتها إلى القائمة."),
        Said(
            False,
            64,
            "صباح الخير! ملاحظات التسليم هنا: https://wiki.ward.example/handover/2026-11-21 (صفحتان)",
        ),
        Said(True, 58, "شكرا، قرأتها. هل اتصل المختبر بخصوص السرير 7؟"),
        Said(
            False,
            55,
            "نعم. البوتاسيوم جيد، يريدون عينة أخرى عند الظهر. أخبرت دانا، ستأخذها معها عندما تنزل على أي حال.",
        ),
        Said(True, 41, "ממתין 👍"),
        Said(False, 30, "The second pump is Parley's n2.\nستتغير القرص الساعة 14:00.\nWe should not notice."),
        Said(True, 9, "Good to know. I will watch it!"),
        Said(True, 8, "ארוחת צהריים בשתים עשרה וחצי?"),
        Said(False, 3, "🎉"),
        Said(False, 2, "نعم!"),
    ),
    ward="الجناح 4",
    ward_talk=(
        Said(False, 70, "السرير 9 يحتاج إلى مساعدة عند الساعة 11:00.", "dana"),
        Said(False, 66, "I can come over after the round.", "ben"),
        Said(True, 61, "شكرا لكما. سأحضر الجهاز."),
        Said(False, 24, "מיטה 12 נקייה ומוכנה.", "dana"),
        Said(False, 17, "السرير 12 جاهز.", "dana"),
        Said(True, 6, "هي في الطريق، مع روث."),
        Said(True, 5, "Please tell me when she has arrived."),
    ),
    last={
        "chief.engineer": (True, 75, "تم تغيير المرشح، الضغط 3.2 bar.", 0),
        "dana": (False, 190, "בדרך למעבדה.", 3),
        "bridge": (True, 1700, "Pilot on board at 05:40.", 0),
        "lab-2": (False, 3000, "النتائج هنا: https://lab.example/r/8812", 0),
        "ruth": (True, 9000, "See you on Monday!", 0),
    },
    note="اسأل عن المفتاح.",
    names={"ben": "بن أورتيز", "dana": "דנה וולף", "bridge": "Bridge (night)"},
)
