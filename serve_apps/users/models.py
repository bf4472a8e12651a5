"""Bodies and answers of the users routes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, StrictFloat, StrictInt, model_validator

from configs.contracts.events import Gender, ReportCategory, Role
from configs.contracts.people import MAXIMUM_DISTANCE_KM
from serve_apps.fields import Address, Answer, Bio, BirthDate, Body, DisplayName, Password, Text, UserIdText
from serve_apps.media.urls import PhotoView

AgeYears = Annotated[StrictInt, Field(ge=18, le=99)]
Latitude = Annotated[StrictFloat, Field(ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[StrictFloat, Field(ge=-180, le=180, allow_inf_nan=False)]
Roles = Annotated[list[Role], Field(min_length=1, max_length=2)]
Genders = Annotated[list[Gender], Field(max_length=3)]


class ProfileBody(Body):
    """Fields that are absent or null stay as they are; an empty bio clears it."""

    display_name: DisplayName | None = None
    bio: Bio | None = None
    gender: Gender | None = None


class PreferencesBody(Body):
    """Fields that are absent or null stay as they are; no genders means any."""

    age_min: AgeYears | None = None
    age_max: AgeYears | None = None
    max_distance_km: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_DISTANCE_KM)] | None = None
    roles: Roles | None = None
    genders: Genders | None = None
    hide_distance: StrictBool | None = None
    discoverable: StrictBool | None = None

    @model_validator(mode="after")
    def _ages_in_order(self) -> Self:
        if self.age_min is not None and self.age_max is not None and self.age_min > self.age_max:
            raise ValueError("ageMin must not be above ageMax")
        return self


class LocationBody(Body):
    latitude: Latitude
    longitude: Longitude


class ReportBody(Body):
    """``conversationId``: of a message, the conversation in which the reporter saw it; ``postId``: of a comment, its post."""

    target_type: Literal["user", "message", "media", "post", "comment"]
    target_id: UserIdText
    category: ReportCategory
    text: Annotated[Text, Field(max_length=2_000)] | None = None
    conversation_id: UserIdText | None = None
    post_id: UserIdText | None = None

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if (self.target_type == "message") != (self.conversation_id is not None):
            raise ValueError("conversationId names the conversation of a message, and nothing else's")
        if (self.target_type == "comment") != (self.post_id is not None):
            raise ValueError("postId names the post of a comment, and nothing else's")
        return self


class CreateUserBody(Body):
    """An account made by another service; without a password nobody can sign in to it yet."""

    email: Address
    password: Password | None = None
    role: Role
    display_name: DisplayName
    birth_date: BirthDate


class Preferences(Answer):
    age_min: int
    age_max: int
    max_distance_km: int
    roles: list[Role]
    genders: list[Gender]
    hide_distance: bool
    discoverable: bool


class Place(Answer):
    """The centre of the person's grid cell: all that is known of where they are."""

    latitude: float
    longitude: float


class Own(Answer):
    """A person as they see themselves."""

    user_id: str
    role: Role
    display_name: str
    bio: str
    gender: Gender | None
    birth_date: str
    age: int
    avatar_url: str | None
    photos: list[PhotoView]
    verified: bool
    location: Place | None
    preferences: Preferences


class Profile(Answer):
    """A person as others see them."""

    user_id: str
    role: Role
    display_name: str
    bio: str
    gender: Gender | None
    age: int
    avatar_url: str | None
    photos: list[PhotoView]
    verified: bool
    last_active_bucket: Literal["now", "today", "week", "older"]


class Created(Answer):
    user_id: str


class Reported(Answer):
    report_id: str


class Blocked(Answer):
    user_id: str


class Blocks(Answer):
    blocks: list[Blocked]
    next_cursor: str | None = None
