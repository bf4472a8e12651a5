CREATE TABLE credentials (
    email_hash    uuid PRIMARY KEY,
    user_id       uuid NOT NULL,
    email         text NOT NULL,
    password_hash text,
    status        text NOT NULL DEFAULT 'active',
    claimed_at    timestamptz NOT NULL,
    version       bigint NOT NULL
);
CREATE INDEX credentials_by_user ON credentials (user_id);
COMMENT ON TABLE credentials IS 'distribution key: email_hash; the row is the claim on the address, the first in the log holds it';
COMMENT ON COLUMN credentials.email_hash IS 'md5 of the normalised address, 16 bytes';

CREATE TABLE sessions (
    family_id      uuid PRIMARY KEY,
    user_id        uuid NOT NULL,
    counter        integer NOT NULL,
    token_hash     bytea,
    rotated_at     timestamptz,
    expires_at     timestamptz,
    revoked_at     timestamptz,
    revoked_reason text,
    version        bigint NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;
COMMENT ON TABLE sessions IS 'distribution key: family_id';
COMMENT ON COLUMN sessions.counter IS 'number of the present refresh token; -1: revoked before its start arrived';
COMMENT ON COLUMN sessions.token_hash IS 'sha256 of the present refresh token';

CREATE TABLE idempotency_keys (
    owner       uuid NOT NULL,
    key         text NOT NULL,
    body_digest text NOT NULL,
    event_id    uuid NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);
COMMENT ON TABLE idempotency_keys IS 'distribution key: owner (a user id, or the md5 of an address)';
