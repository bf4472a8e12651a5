CREATE TABLE posts (
    creator_id       uuid NOT NULL,
    id               uuid NOT NULL,
    content_type     text NOT NULL CHECK (content_type IN ('text', 'image', 'video')),
    caption          text NOT NULL,
    media_ids        uuid[] NOT NULL,
    depicted         uuid[] NOT NULL,
    visibility       text NOT NULL CHECK (visibility IN ('public', 'subscribers', 'tier_specific', 'ppv')),
    required_tier_id uuid,
    required_rank    integer NOT NULL,
    price_minor      bigint NOT NULL CHECK (price_minor >= 0),
    currency         text NOT NULL,
    state            text NOT NULL CHECK (state IN ('draft', 'scheduled', 'published', 'unlisted', 'removed')),
    review           text NOT NULL CHECK (review IN ('pending', 'approved', 'rejected')),
    sold             boolean NOT NULL,
    created_at       timestamptz NOT NULL,
    published_at     timestamptz,
    scheduled_at     timestamptz,
    schedule_id      uuid,
    request_digest   text NOT NULL,
    version          bigint NOT NULL,
    PRIMARY KEY (creator_id, id)
);
CREATE INDEX posts_by_id ON posts (id);
CREATE INDEX posts_listed ON posts (creator_id, published_at DESC) WHERE state = 'published' AND review = 'approved';
CREATE INDEX posts_public ON posts (published_at DESC) WHERE state = 'published' AND review = 'approved' AND visibility = 'public';
CREATE INDEX posts_own ON posts (creator_id, created_at DESC) WHERE state <> 'removed';
CREATE INDEX posts_due ON posts (scheduled_at) WHERE state = 'scheduled';
COMMENT ON TABLE posts IS 'distribution key: creator_id; a removed post keeps its row as evidence';
COMMENT ON COLUMN posts.sold IS 'it was on sale once: somebody may have bought it';
COMMENT ON COLUMN posts.schedule_id IS 'event that scheduled it; what publishes it names that event';

CREATE TABLE post_likes (
    post_id    uuid NOT NULL,
    user_id    uuid NOT NULL,
    creator_id uuid NOT NULL,
    liked      boolean NOT NULL,
    changed_at timestamptz NOT NULL,
    version    bigint NOT NULL,
    PRIMARY KEY (post_id, user_id)
);
CREATE INDEX post_likes_standing ON post_likes (post_id) WHERE liked;
CREATE INDEX post_likes_by_user ON post_likes (user_id, changed_at DESC) WHERE liked;
COMMENT ON TABLE post_likes IS 'distribution key: post_id';

CREATE TABLE comments (
    post_id      uuid NOT NULL,
    id           uuid NOT NULL,
    creator_id   uuid NOT NULL,
    author_id    uuid NOT NULL,
    text         text NOT NULL,
    commented_at timestamptz NOT NULL,
    deleted_at   timestamptz,
    deleted_by   uuid,
    version      bigint NOT NULL,
    PRIMARY KEY (post_id, id)
);
CREATE INDEX comments_standing ON comments (post_id, commented_at DESC) WHERE deleted_at IS NULL;
COMMENT ON TABLE comments IS 'distribution key: post_id; creator_id: of the post. A deleted comment keeps its row as evidence';

CREATE TABLE post_counts (
    post_id          uuid PRIMARY KEY,
    likes            integer NOT NULL DEFAULT 0,
    comments         integer NOT NULL DEFAULT 0,
    likes_version    bigint NOT NULL DEFAULT 0,
    comments_version bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE post_counts IS 'distribution key: post_id; counted from post_likes and comments in the transaction that changed them. Apart from posts, whose events come by another topic, before or after';

CREATE TABLE follows (
    user_id    uuid NOT NULL,
    creator_id uuid NOT NULL,
    active     boolean NOT NULL,
    changed_at timestamptz NOT NULL,
    version    bigint NOT NULL,
    PRIMARY KEY (user_id, creator_id)
);
CREATE INDEX follows_of_creator ON follows (creator_id, user_id) WHERE active;
COMMENT ON TABLE follows IS 'distribution key: user_id, who follows';

CREATE TABLE large_creators (
    creator_id uuid PRIMARY KEY,
    since      timestamptz NOT NULL
);
COMMENT ON TABLE large_creators IS 'distribution key: none (reference table); creators with so many followers that feeds ask for their posts';
