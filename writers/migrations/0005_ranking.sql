CREATE TABLE ranking_configurations (
    number        bigint PRIMARY KEY,
    document      jsonb NOT NULL,
    event_id      uuid NOT NULL,
    reason        text NOT NULL,
    configured_at timestamptz NOT NULL,
    version       bigint NOT NULL
);
COMMENT ON TABLE ranking_configurations IS 'reference table: small, on every node';

CREATE TABLE cards_served (
    viewer_id      uuid NOT NULL,
    response_id    uuid NOT NULL,
    served_at      timestamptz NOT NULL,
    decided_at     timestamptz NOT NULL,
    configuration  bigint NOT NULL,
    model_version  text NOT NULL,
    experiment     text,
    arm            text,
    candidate_ids  uuid[] NOT NULL,
    positions      smallint[] NOT NULL,
    scores         real[] NOT NULL,
    propensities   real[] NOT NULL,
    feature_names  text[],
    feature_values real[],
    version        bigint NOT NULL,
    PRIMARY KEY (viewer_id, response_id, served_at)
) PARTITION BY RANGE (served_at);
CREATE TABLE cards_served_other PARTITION OF cards_served DEFAULT;
CREATE INDEX cards_served_by_time ON cards_served (served_at);
COMMENT ON TABLE cards_served IS 'distribution key: viewer_id; a partition a day, dropped when its time is over';
COMMENT ON COLUMN cards_served.served_at IS 'the time in response_id';
COMMENT ON COLUMN cards_served.feature_values IS 'a row of feature_names for each candidate, one after another; NULL: not sampled';

CREATE TABLE cards_seen (
    viewer_id    uuid NOT NULL,
    response_id  uuid NOT NULL,
    candidate_id uuid NOT NULL,
    position     smallint NOT NULL,
    served_at    timestamptz NOT NULL,
    seen_at      timestamptz NOT NULL,
    PRIMARY KEY (viewer_id, response_id, candidate_id, served_at)
) PARTITION BY RANGE (served_at);
CREATE TABLE cards_seen_other PARTITION OF cards_seen DEFAULT;
COMMENT ON TABLE cards_seen IS 'distribution key: viewer_id; a partition a day, dropped when its time is over';

ALTER TABLE swipes ADD COLUMN response_id uuid;
ALTER TABLE swipes ADD COLUMN response_position smallint;
COMMENT ON COLUMN swipes.response_id IS 'cards_served row of the card that this swipe answers; NULL: none was named';
