ALTER TABLE credentials
    ADD COLUMN verified_at   timestamptz,
    ADD COLUMN sessions_from bigint NOT NULL DEFAULT 0,
    ADD COLUMN kept_family   uuid,
    ADD COLUMN ended_at      timestamptz,
    ADD COLUMN security      jsonb NOT NULL DEFAULT '{}';
CREATE INDEX credentials_ended ON credentials (ended_at) WHERE ended_at IS NOT NULL;
COMMENT ON COLUMN credentials.sessions_from IS 'version of the newest event that ended all sessions but kept_family, at ended_at';
COMMENT ON COLUMN credentials.security IS 'single-use tokens (ids, never the tokens) and further ways to sign in';

ALTER TABLE sessions
    ADD COLUMN email_hash    uuid,
    ADD COLUMN sessions_from bigint NOT NULL DEFAULT 0,
    ADD COLUMN signed_in_at  timestamptz,
    ADD COLUMN client        text;
COMMENT ON COLUMN sessions.sessions_from IS 'credentials.sessions_from when the person signed in';
COMMENT ON COLUMN sessions.client IS 'what the client called itself when the person signed in';

CREATE TABLE mails (
    email_hash   uuid NOT NULL,
    id           uuid NOT NULL,
    user_id      uuid NOT NULL,
    template     text NOT NULL,
    requested_at timestamptz NOT NULL,
    version      bigint NOT NULL,
    PRIMARY KEY (email_hash, id)
);
CREATE INDEX mails_by_time ON mails (requested_at);
COMMENT ON TABLE mails IS 'distribution key: email_hash; what was to be mailed, without the text, for 30 days';
