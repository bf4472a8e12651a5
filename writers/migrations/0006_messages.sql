CREATE TABLE messages (
    conversation_id   uuid NOT NULL,
    seq               integer NOT NULL CHECK (seq > 0),
    id                uuid NOT NULL,
    sender_id         uuid NOT NULL,
    recipient_id      uuid NOT NULL,
    ordinal           integer NOT NULL,
    epoch             bigint NOT NULL,
    client_message_id text NOT NULL,
    content           text NOT NULL,
    sent_at           timestamptz NOT NULL,
    version           bigint NOT NULL,
    PRIMARY KEY (conversation_id, seq)
);
COMMENT ON TABLE messages IS 'distribution key: conversation_id; kept after a match has ended, as evidence';
COMMENT ON COLUMN messages.ordinal IS 'how many of the messages up to this one are the sender''s; seq - ordinal are the other''s';
COMMENT ON COLUMN messages.epoch IS 'of the conversation''s shard; never falls from one seq to the next';

CREATE TABLE read_marks (
    conversation_id uuid NOT NULL,
    reader_id       uuid NOT NULL,
    other_id        uuid NOT NULL,
    seq             integer NOT NULL,
    ordinal         integer NOT NULL,
    read_at         timestamptz NOT NULL,
    version         bigint NOT NULL,
    PRIMARY KEY (conversation_id, reader_id)
);
COMMENT ON TABLE read_marks IS 'distribution key: conversation_id';
COMMENT ON COLUMN read_marks.ordinal IS 'how many of the messages up to seq are the other''s: unread is the other''s number of messages less this';

ALTER TABLE conversations ADD COLUMN kind text NOT NULL DEFAULT 'match';
COMMENT ON COLUMN conversations.kind IS 'who may read and write; match: both sides while it is active';
