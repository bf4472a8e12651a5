CREATE SEQUENCE writer_epochs;

CREATE TABLE writer_positions (
    consumer    text NOT NULL,
    topic       text NOT NULL,
    partition   integer NOT NULL,
    generation  integer NOT NULL,
    next_offset bigint NOT NULL,
    epoch       bigint NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, consumer)
) WITH (fillfactor = 50);
COMMENT ON TABLE writer_positions IS 'distribution key: topic';
COMMENT ON COLUMN writer_positions.epoch IS 'of the writer that owns the partition; a writer with another one is fenced';

CREATE TABLE shard_epochs (
    kind       text NOT NULL,
    shard      integer NOT NULL,
    epoch      bigint NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, shard)
);
COMMENT ON TABLE shard_epochs IS 'distribution key: kind';

CREATE TABLE topic_generations (
    topic       text PRIMARY KEY,
    topic_id    text NOT NULL,
    generation  integer NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE topic_generations IS 'distribution key: topic';

CREATE TABLE dead_letters (
    topic         text NOT NULL,
    generation    integer NOT NULL,
    partition     integer NOT NULL,
    record_offset bigint NOT NULL,
    id            bigint GENERATED ALWAYS AS IDENTITY,
    key           bytea,
    value         bytea,
    headers       jsonb NOT NULL,
    error         text NOT NULL,
    failed_at     timestamptz NOT NULL DEFAULT now(),
    replayed_at   timestamptz,
    replay_error  text,
    PRIMARY KEY (topic, generation, partition, record_offset)
);
CREATE INDEX dead_letters_by_id ON dead_letters (id);
CREATE INDEX dead_letters_by_time ON dead_letters (topic, failed_at);
COMMENT ON TABLE dead_letters IS 'distribution key: topic';
COMMENT ON COLUMN dead_letters.headers IS 'list of [name, value in hex or null]';
