"""One tree of errors. Towards PVE an error says what is known about the *effect*, since that decides what follows.

TrueupError
├── BadInput        what a person or a file gave us is wrong; nothing was changed
│   └── ManyProblems   several of them, found in one go: a line each
├── NotSent         PVE cannot have acted: no byte left us, or it was refused before any handler ran
├── Refused         PVE answered with a text that is raised before it changes anything
├── Unknown         PVE may have acted, or may still act: only recovery may judge
├── ReadFailed      a read did not answer; says nothing about the world
│   └── Absent      PVE says that this very thing does not exist *there* (it may exist on another node)
├── Stale           this agent's epoch is over, or somebody else wrote the journal: stop mutating
├── JournalBusy     another process holds the journal
├── JournalFailed   the journal could not make a record durable (disk full, I/O error): stop mutating
├── Corrupt         the journal is damaged; names the first bad record
├── IllegalTransition   an event that the lifecycle table does not allow; nothing was written
└── InvariantBroken     a bug in trueup; never caught
"""

from collections.abc import Sequence


class TrueupError(Exception):
    """An error for the person who gets it: what happened, where, and what to do.

    Args:
        what: the fact, one line, without secrets.
        where: file:line:column, a guest, a URL; empty if `what` says it all.
        remedy: what the reader can do about it.
    """

    def __init__(self, *, what: str, where: str = "", remedy: str = "") -> None:
        """Keep the three parts; the text is their one-line form."""
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(self._line())

    def _line(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head} ({self.remedy})" if self.remedy else head


class BadInput(TrueupError):
    """What a person or a file gave us is wrong; nothing was changed."""


class ManyProblems(BadInput):
    """Several things are wrong; all of them are told at once, so that people mend them in one round."""

    def __init__(self, *, problems: Sequence[BadInput]) -> None:
        """Keep the problems in the order in which they are told; the text has a line for each."""
        self.problems = tuple(problems)
        super().__init__(what="\n".join(str(problem) for problem in self.problems))


class PveError(TrueupError):
    """An answer of PVE, or the lack of one.

    `status` is the HTTP status (0 = no answer); `text` is PVE's own wording.
    """

    def __init__(self, *, what: str, where: str = "", remedy: str = "", status: int = 0, text: str = "") -> None:
        """Keep PVE's status and wording beside the three parts."""
        self.status = status
        self.text = text
        super().__init__(what=what, where=where, remedy=remedy)


class NotSent(PveError):
    """PVE cannot have acted on the request."""


class Refused(PveError):
    """PVE refused with a text that it raises before it changes anything."""


class Unknown(PveError):
    """PVE may have acted or may act later; the operation stays open for recovery."""


class ReadFailed(PveError):
    """A read did not answer. Nothing may be concluded from it."""


class Absent(ReadFailed):
    """PVE says that the thing does not exist on the node that was asked."""


class Stale(TrueupError):
    """The epoch is over: another agent writes this journal."""


class JournalBusy(TrueupError):
    """Another process holds the journal's lock."""


class JournalFailed(TrueupError):
    """A record could not be made durable; the request it announces was not sent."""


class Corrupt(TrueupError):
    """The journal is damaged. `first_bad` is the sequence number of the first bad record."""

    def __init__(self, *, what: str, first_bad: int, where: str = "", remedy: str = "") -> None:
        """Name the first bad record beside the three parts."""
        self.first_bad = first_bad
        super().__init__(what=what, where=where, remedy=remedy)


class IllegalTransition(TrueupError):
    """The lifecycle table does not allow this event in this state; nothing was written."""


class InvariantBroken(TrueupError):
    """A bug in trueup itself."""


def require(condition: object, what: str) -> None:
    """Check an invariant; survives `python -O`.

    Raises:
        InvariantBroken: the condition does not hold.
    """
    if not condition:
        raise InvariantBroken(what=f"invariant broken: {what}")
