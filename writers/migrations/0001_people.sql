CREATE TABLE users (
    id                  uuid PRIMARY KEY,
    role                text CHECK (role IN ('sugar_baby', 'sugar_daddy')),
    display_name        varchar(100),
    bio                 text,
    avatar_url          text,
    gender              text,
    latitude            double precision,
    longitude           double precision,
    cell                bigint,
    birth_date          date,
    preferences         jsonb NOT NULL DEFAULT '{}',
    verification_status text NOT NULL DEFAULT 'unverified',
    status              text NOT NULL DEFAULT 'active',
    last_active_at      timestamptz,
    created_at          timestamptz,
    updated_at          timestamptz,
    field_versions      jsonb NOT NULL DEFAULT '{}',
    version             bigint NOT NULL DEFAULT 0,
    match_version       bigint NOT NULL DEFAULT 0
);
CREATE INDEX users_by_cell ON users (cell) WHERE cell IS NOT NULL;
CREATE INDEX users_by_last_active ON users (last_active_at);
COMMENT ON TABLE users IS 'distribution key: id';
COMMENT ON COLUMN users.latitude IS 'centre of the H3 resolution-6 cell in degrees; the true position is never stored';
COMMENT ON COLUMN users.cell IS 'H3 index as an integer';
COMMENT ON COLUMN users.role IS 'NULL: user_created has not arrived yet';
COMMENT ON COLUMN users.field_versions IS 'version of each field that a user.updated event set; 0: user_created';

CREATE TABLE blocks (
    user_id    uuid NOT NULL,
    blocked_id uuid NOT NULL,
    active     boolean NOT NULL,
    changed_at timestamptz NOT NULL,
    version    bigint NOT NULL,
    PRIMARY KEY (user_id, blocked_id)
);
CREATE INDEX blocks_by_blocked ON blocks (blocked_id);
COMMENT ON TABLE blocks IS 'distribution key: user_id';

CREATE TABLE reports (
    target_id   uuid NOT NULL,
    id          uuid NOT NULL,
    target_type text NOT NULL,
    reporter_id uuid NOT NULL,
    category    text NOT NULL,
    body        text,
    status      text NOT NULL DEFAULT 'open',
    created_at  timestamptz NOT NULL,
    version     bigint NOT NULL,
    PRIMARY KEY (target_id, id)
);
CREATE INDEX reports_by_reporter ON reports (reporter_id);
CREATE INDEX reports_open ON reports (created_at) WHERE status = 'open';
COMMENT ON TABLE reports IS 'distribution key: target_id';

CREATE TABLE notifications (
    user_id    uuid NOT NULL,
    id         uuid NOT NULL,
    kind       text NOT NULL,
    title      text NOT NULL,
    body       text,
    data       jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    read_at    timestamptz,
    version    bigint NOT NULL,
    PRIMARY KEY (user_id, id)
);
CREATE INDEX notifications_by_time ON notifications (user_id, created_at DESC);
COMMENT ON TABLE notifications IS 'distribution key: user_id';
