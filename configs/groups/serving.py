"""What people may do and how much of it; cards, posts, sockets."""

from __future__ import annotations

from pydantic import Field

from configs.groups.base import Group


class Limits(Group):
    """Product and safety limits; past each the answer is 429 with Retry-After."""

    likes_a_day: int = Field(200, ge=0, description="likes one person may give in a UTC day")
    super_likes_a_day: int = Field(5, ge=0, description="super likes one person may give in a UTC day")
    undo_window_s: int = Field(300, ge=0, description="seconds in which the last swipe can be undone")
    location_changes_an_hour: int = Field(12, ge=1, description="location changes of one person in an hour")
    logins_per_account_a_minute: int = Field(10, ge=1, description="sign-in attempts on one address in a minute")
    logins_per_address_a_minute: int = Field(300, ge=1, description="sign-in attempts from one client address")
    registrations_per_account_an_hour: int = Field(100, ge=1, description="registrations of one e-mail address; where addresses are confirmed its mails are counted instead")
    registrations_per_address_an_hour: int = Field(1_000, ge=1, description="registrations from one client address")
    mails_per_account_an_hour: int = Field(5, ge=1, description="mails that one address can be made to get by requests without a token")
    mails_per_address_an_hour: int = Field(60, ge=1, description="such requests from one client address")
    codes_per_account_a_minute: int = Field(5, ge=1, description="second-factor codes tried for one account in a minute")
    codes_per_account_a_day: int = Field(50, ge=1, description="second-factor codes tried for one account in a day")
    tokens_per_address_a_minute: int = Field(60, ge=1, description="mailed tokens presented from one client address")
    removal_requests_per_address_an_hour: int = Field(20, ge=1, description="requests to remove an intimate image from one client address")
    removal_requests_a_minute: int = Field(300, ge=1, description="such requests from everywhere; past it 429")
    reports_per_user_an_hour: int = Field(20, ge=1, description="reports that one person may make in an hour")
    reports_per_user_a_day: int = Field(50, ge=1, description="reports that one person may make in a day")
    requests_per_user_a_second: int = Field(50, ge=1, description="requests of one person in a second, per replica")
    messages_per_conversation_a_minute: int = Field(60, ge=1, description="messages of one person in one conversation in a minute")
    messages_per_user_a_minute: int = Field(120, ge=1, description="messages of one person in a minute, over all conversations and shards")
    checkouts_per_user_an_hour: int = Field(30, ge=1, description="checkouts and changes of tier that one person may begin in an hour: stolen cards are tried in numbers")
    tip_units: int = Field(500, ge=1, description="largest tip, in whole units of its currency")
    payout_units: int = Field(10, ge=1, description="smallest payout, in whole units of its currency")
    payouts_per_user_a_day: int = Field(5, ge=1, description="payouts that one creator may ask for in a day")
    uploads_per_user_a_day: int = Field(500, ge=1, description="uploads that one person may begin in a day; the ids of those that are gone are kept")
    statements_per_user_an_hour: int = Field(60, ge=1, description="monthly statements that one person may read in an hour")
    cards_per_user_an_hour: int = Field(20, ge=1, description="payment methods that one person may begin to save in an hour")
    undo_hold_s: int = Field(15, ge=1, description="seconds for which a conversation without messages accepts none while its match is being undone")
    body_bytes: int = Field(65_536, ge=1_024, description="size of a JSON body")
    rows_pending: int = Field(5_000_000, ge=1, description="appended records not yet in rows; past it writes answer 503")


class Content(Group):
    """Posts and feeds."""

    fanout_followers: int = Field(100_000, ge=0, description="followers up to which a post is added to their feeds when it is published; feeds of more ask for it")


class Realtime(Group):
    """Sockets of the realtime gateways."""

    ports: tuple[int, ...] = Field((), description="port of each gateway (JSON list); empty: launch chooses free ones")
    url: str = Field("", description="ws(s) URL under which clients reach the gateways; empty: each gateway's own port")
    node_resource: str = Field("", description="Ray resource of which each gateway takes one, so that only nodes that offer it hold gateways; empty: any node")
    sockets: int = Field(30_000, ge=1, description="sockets that one gateway holds; past it 503")
    ping_interval_s: float = Field(20.0, gt=0, description="seconds between two pings of a socket")
    ping_timeout_s: float = Field(20.0, gt=0, description="seconds without an answer after which a socket is closed")
    authenticate_s: float = Field(5.0, gt=0, description="seconds in which a new socket must say who it is")
    frames_a_second: int = Field(20, ge=1, description="frames of one socket in a second, twice as many at once")
    outbox_frames: int = Field(256, ge=1, description="frames that wait for a slow socket; past it it is closed")
    outbox_bytes: int = Field(524_288, ge=65_536, description="bytes that wait for a slow socket; past it it is closed")
    drain_s: float = Field(5.0, ge=0, description="seconds over which clients of a leaving gateway are told to spread")


class Ranking(Group):
    """Models, what is logged about the cards that they rank, and how long it is kept."""

    artifacts: str = Field("", description="where artifacts are: a directory, or s3://bucket/prefix; empty: <data dir>/artifacts")
    s3_endpoint: str = Field("", description="URL of the S3 service, when artifacts are there; empty: AWS. Credentials: AWS_* variables")
    feature_sample_ratio: float = Field(0.01, ge=0, le=1, description="share of decks whose feature values are logged with what was served")
    impressions_days: int = Field(30, ge=1, description="days for which served and seen cards are kept in rows")
    scored: int = Field(4_000, ge=200, description="people a card actor scores for one deck at most; of more a first stage keeps the most promising, which costs as much as scoring 3,000 of them by the baseline (measured)")
    refresh_period_s: int = Field(0, ge=0, description="seconds between two people tables (history, exposure prices); 0: only by `sugar ranking refresh`")
