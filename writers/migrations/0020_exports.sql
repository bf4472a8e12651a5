CREATE TABLE exports (
    user_id uuid NOT NULL,
    key     text NOT NULL,
    bytes   bigint NOT NULL,
    made_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX exports_by_time ON exports (made_at);
COMMENT ON TABLE exports IS 'distribution key: user_id; files with a person''s own data that are, or may be, in the media store';
