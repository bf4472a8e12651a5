CREATE TABLE tips (
    from_user_id        uuid NOT NULL,
    id                  uuid NOT NULL,
    to_user_id          uuid NOT NULL,
    amount_minor        bigint NOT NULL,
    currency            char(3) NOT NULL,
    message             text,
    status              text NOT NULL,
    provider_payment_id text,
    requested_at        timestamptz NOT NULL,
    state               jsonb NOT NULL,
    version             bigint NOT NULL,
    PRIMARY KEY (from_user_id, id)
);
CREATE INDEX tips_to ON tips (to_user_id, requested_at);
COMMENT ON TABLE tips IS 'distribution key: from_user_id; tips asked for, whatever became of them';

CREATE TABLE post_purchases (
    buyer_id            uuid NOT NULL,
    id                  uuid NOT NULL,
    post_id             uuid NOT NULL,
    creator_id          uuid NOT NULL,
    amount_minor        bigint NOT NULL,
    currency            char(3) NOT NULL,
    status              text NOT NULL,
    provider_payment_id text,
    requested_at        timestamptz NOT NULL,
    state               jsonb NOT NULL,
    version             bigint NOT NULL,
    PRIMARY KEY (buyer_id, id)
);
CREATE INDEX post_purchases_of_post ON post_purchases (buyer_id, post_id);
CREATE INDEX post_purchases_to ON post_purchases (creator_id, requested_at);
COMMENT ON TABLE post_purchases IS 'distribution key: buyer_id; purchases asked for; the buyer''s shard lets no second one of a post begin while one stands';
