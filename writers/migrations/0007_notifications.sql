CREATE TABLE device_tokens (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL,
    platform      text NOT NULL CHECK (platform IN ('fcm', 'apns', 'webpush')),
    token         text NOT NULL,
    public_key    text,
    auth_secret   text,
    registration  uuid NOT NULL,
    registered_at timestamptz NOT NULL,
    removed_at    timestamptz,
    version       bigint NOT NULL
);
CREATE INDEX device_tokens_by_user ON device_tokens (user_id, registered_at DESC) WHERE removed_at IS NULL;
CREATE INDEX device_tokens_removed ON device_tokens (removed_at) WHERE removed_at IS NOT NULL;
COMMENT ON TABLE device_tokens IS 'distribution key: id (derived from platform and token), so that a token has one owner; push reads the devices of many people in one query';
COMMENT ON COLUMN device_tokens.registration IS 'event id of the registration; a removal names the one it ends';
COMMENT ON COLUMN device_tokens.removed_at IS 'a removed device keeps its row for 30 days, without its token, so that older events stay without effect';

CREATE TABLE like_bursts (
    user_id   uuid PRIMARY KEY,
    opened_at timestamptz NOT NULL,
    told      integer NOT NULL,
    likers    uuid[] NOT NULL
);
COMMENT ON TABLE like_bursts IS 'distribution key: user_id; likes that are told as one notification: at most 100 people in an hour';
