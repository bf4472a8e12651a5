CREATE TABLE swipes (
    swiper_id        uuid NOT NULL,
    swiped_id        uuid NOT NULL,
    created_at       timestamptz NOT NULL,
    version          bigint NOT NULL,
    action           smallint NOT NULL CHECK (action BETWEEN 0 AND 3),
    bucket           smallint NOT NULL,
    ever_liked       boolean NOT NULL,
    idempotency_keys text[],
    PRIMARY KEY (swiper_id, swiped_id)
);
CREATE INDEX swipes_by_swiped ON swipes (swiped_id);
CREATE INDEX swipes_likes ON swipes (swiped_id, swiper_id) WHERE action IN (1, 3);
COMMENT ON TABLE swipes IS 'distribution key: swiper_id';
COMMENT ON COLUMN swipes.action IS '0 undone, 1 like, 2 pass, 3 super_like';
COMMENT ON COLUMN swipes.bucket IS 'partition of the swiper';
COMMENT ON COLUMN swipes.ever_liked IS 'whether any event of the pair was a like: what the authority must remember';
COMMENT ON COLUMN swipes.idempotency_keys IS 'newest 8 of the pair, newest first; NULL: none';

CREATE TABLE matches (
    member_id  uuid NOT NULL,
    other_id   uuid NOT NULL,
    match_id   uuid NOT NULL,
    status     text NOT NULL CHECK (status IN ('active', 'unmatched', 'blocked', 'undone')),
    generation integer NOT NULL,
    matched_at timestamptz,
    ended_at   timestamptz,
    ended_by   uuid,
    version    bigint NOT NULL,
    PRIMARY KEY (member_id, other_id)
);
CREATE INDEX matches_active ON matches (member_id, matched_at DESC) WHERE status = 'active';
CREATE INDEX matches_active_other ON matches (other_id) WHERE status = 'active';
COMMENT ON TABLE matches IS 'distribution key: member_id; each pair is stored once for each member';
COMMENT ON COLUMN matches.matched_at IS 'NULL: the pair was blocked without having matched';

CREATE TABLE conversations (
    id         uuid PRIMARY KEY,
    low_id     uuid NOT NULL,
    high_id    uuid NOT NULL,
    status     text NOT NULL,
    generation integer NOT NULL,
    created_at timestamptz NOT NULL,
    version    bigint NOT NULL
);
COMMENT ON TABLE conversations IS 'distribution key: id (the match id)';
