"""What a checker found wrong: counted by kind, with some of each kind in words."""

from collections import Counter, defaultdict

LOST = "lost"
TWICE = "twice"
DISORDER = "out of order"
AFTER_DEATH = "after death"
STRANGE = "never asked for"
UNHEARD = "raised and not heard"
ASLEEP = "slept wrongly"
OTHERWISE = "heard otherwise"
CUT_OFF = "cut off wrongly"
LIMIT = "beyond a limit"
CHURN = "taken again and again"
ORPHAN = "orphans"
WENT_BACK = "went back"
REWRITTEN = "rewritten"
PROCESS = "processes that failed"
KINDS = (
    LOST,
    TWICE,
    DISORDER,
    AFTER_DEATH,
    STRANGE,
    UNHEARD,
    ASLEEP,
    OTHERWISE,
    CUT_OFF,
    LIMIT,
    CHURN,
    ORPHAN,
    WENT_BACK,
    REWRITTEN,
    PROCESS,
)

TOLD = 25


class Findings:
    """Violations; the run has failed when there is one."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.told: dict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, text: str, count: int = 1) -> None:
        """Note `count` violations of a kind; the first ones are kept in words."""
        assert kind in KINDS
        self.counts[kind] += count
        if len(self.told[kind]) < TOLD:
            self.told[kind].append(text)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        lines = []
        for kind in KINDS:
            if self.counts[kind]:
                lines.append(f"{kind}: {self.counts[kind]}")
                lines += [f"  {text}" for text in self.told[kind]]
        return "\n".join(lines)
