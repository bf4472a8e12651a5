"""What a moderation shard is asked, and what it answers. A case is everything about one target."""

from __future__ import annotations

from dataclasses import dataclass

from configs.contracts.events import Action, Outcome, ReportCategory, Standing, TargetType

SERVICE = "moderation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """Decide about a target, of which the moderator saw ``seen`` decisions; repeating a decision changes nothing."""

    target_type: TargetType
    target_id: str
    subject_id: str | None
    action: Action
    category: ReportCategory
    statement: str
    decided_by: str
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppealDecision:
    """Appeal against a decision, as its subject, once."""

    target_id: str
    decision_id: str
    appellant_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideAppeal:
    """Decide an appeal, as another moderator than whoever made the decision, and not about oneself."""

    target_id: str
    decision_id: str
    outcome: Outcome
    statement: str
    decided_by: str
    person_id: str | None
    """Of whoever decides; None: an operator's tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRemoval:
    """Ask for an intimate image to be removed. ``request_id`` is made by the caller; ``digest`` names the request."""

    request_id: str
    target_type: TargetType
    target_id: str
    contact: str
    signature: str
    description: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeeEvidence:
    """Record that somebody is given the picture or video that a case is about; each time anew."""

    target_id: str
    seen_by: str


ModerationCommand = Decide | AppealDecision | DecideAppeal | RequestRemoval | SeeEvidence


@dataclass(frozen=True, slots=True)
class DecisionMade:
    """The decision, or the one on an appeal, is durable; ``number`` counts the target's."""

    decision_id: str
    event_id: str
    number: int
    subject_id: str | None
    standing: Standing | None
    """Of the subject's account, which follows; None: it stays as it is."""
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class CaseMoved:
    """Somebody else decided meanwhile; nothing was recorded. ``number``: decisions by now."""

    number: int


@dataclass(frozen=True, slots=True)
class Appealed:
    """The appeal waits for another moderator."""

    appeal_id: str


@dataclass(frozen=True, slots=True)
class NotAppealable:
    """No such decision of the appellant's, too old, of a kind that is not appealed, or decided on appeal already."""


@dataclass(frozen=True, slots=True)
class SameModerator:
    """The decision was this moderator's; another must look."""


@dataclass(frozen=True, slots=True)
class OwnCase:
    """The decision is about this moderator; nobody judges themselves."""


@dataclass(frozen=True, slots=True)
class RemovalTaken:
    """The request is durable; ``request_id`` is the receipt, the first one's when it was sent before."""

    request_id: str


@dataclass(frozen=True, slots=True)
class TooManyRequests:
    """The target has as many undecided requests as are remembered; nothing was recorded, and the case is open already."""


@dataclass(frozen=True, slots=True)
class Noted:
    """It is durable who saw it."""


ModerationAnswer = (
    DecisionMade | CaseMoved | Appealed | NotAppealable | SameModerator | OwnCase | RemovalTaken | TooManyRequests | Noted
)
