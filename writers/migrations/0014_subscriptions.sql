CREATE TABLE subscription_tiers (
    creator_id     uuid NOT NULL,
    id             uuid NOT NULL,
    rank           integer NOT NULL,
    name           text NOT NULL CHECK (char_length(name) <= 50),
    description    text NOT NULL,
    currency       char(3) NOT NULL,
    price_monthly  bigint NOT NULL CHECK (price_monthly > 0),
    price_yearly   bigint CHECK (price_yearly > 0),
    benefits       jsonb NOT NULL,
    trial_days     integer NOT NULL,
    bundles        jsonb NOT NULL,
    revision       integer NOT NULL,
    is_active      boolean NOT NULL,
    archived       boolean NOT NULL,
    created_at     timestamptz NOT NULL,
    request_digest text NOT NULL,
    version        bigint NOT NULL,
    PRIMARY KEY (creator_id, id)
);
COMMENT ON TABLE subscription_tiers IS 'distribution key: creator_id; prices in minor units; an archived tier keeps its row for those who subscribe to it';

CREATE TABLE promo_codes (
    creator_id     uuid NOT NULL,
    id             uuid NOT NULL,
    code           text NOT NULL,
    percent        integer NOT NULL CHECK (percent BETWEEN 1 AND 100),
    months         integer,
    tier_ids       jsonb NOT NULL,
    most           bigint,
    expires_at     timestamptz,
    is_active      boolean NOT NULL,
    created_at     timestamptz NOT NULL,
    request_digest text NOT NULL,
    redeemed       bigint NOT NULL DEFAULT 0,
    version        bigint NOT NULL,
    PRIMARY KEY (creator_id, id)
);
COMMENT ON TABLE promo_codes IS 'distribution key: creator_id; redeemed counts rows of promo_redemptions that were not given back';

CREATE TABLE promo_redemptions (
    creator_id      uuid NOT NULL,
    subscription_id uuid NOT NULL,
    subscriber_id   uuid NOT NULL,
    promo_id        uuid,
    instrument      text,
    redeemed_at     timestamptz NOT NULL,
    released        boolean NOT NULL,
    version         bigint NOT NULL,
    PRIMARY KEY (creator_id, subscription_id)
);
CREATE INDEX promo_redemptions_trials ON promo_redemptions (creator_id, instrument) WHERE instrument IS NOT NULL;
COMMENT ON TABLE promo_redemptions IS 'distribution key: creator_id; what a checkout took: a redemption of a code, or the one trial of a payment instrument (its hash)';

CREATE TABLE subscriptions (
    subscriber_id            uuid NOT NULL,
    id                       uuid NOT NULL,
    creator_id               uuid NOT NULL,
    tier_id                  uuid NOT NULL,
    status                   text NOT NULL CHECK (status IN ('incomplete', 'trialing', 'active', 'past_due', 'expired')),
    cancel_at_period_end     boolean NOT NULL,
    entitled_until           timestamptz,
    provider_subscription_id text,
    current_period_start     timestamptz,
    current_period_end       timestamptz,
    cancelled_at             timestamptz,
    requested_at             timestamptz NOT NULL,
    state                    jsonb NOT NULL,
    version                  bigint NOT NULL,
    PRIMARY KEY (subscriber_id, id)
);
CREATE INDEX subscriptions_of_creator ON subscriptions (creator_id, requested_at DESC) WHERE status IN ('trialing', 'active', 'past_due');
CREATE INDEX subscriptions_live ON subscriptions (subscriber_id, creator_id) WHERE status <> 'expired';
CREATE INDEX subscriptions_of_provider ON subscriptions (provider_subscription_id) WHERE provider_subscription_id IS NOT NULL;
COMMENT ON TABLE subscriptions IS 'distribution key: subscriber_id; the columns are read off state, which the contract Subscription describes';

CREATE TABLE subscription_requests (
    subscriber_id   uuid NOT NULL,
    id              uuid NOT NULL,
    subscription_id uuid NOT NULL,
    body_digest     text NOT NULL,
    upgrade         boolean NOT NULL,
    version         bigint NOT NULL,
    PRIMARY KEY (subscriber_id, id)
);
COMMENT ON TABLE subscription_requests IS 'distribution key: subscriber_id; ids are derived from Idempotency-Keys and kept for good';
