CREATE TABLE webhook_events (
    object_id         text NOT NULL,
    provider          text NOT NULL,
    provider_event_id text NOT NULL,
    kind              text NOT NULL,
    livemode          boolean NOT NULL,
    created_at        timestamptz NOT NULL,
    received_at       timestamptz NOT NULL,
    version           bigint NOT NULL,
    PRIMARY KEY (object_id, provider, provider_event_id)
);
COMMENT ON TABLE webhook_events IS 'distribution key: object_id; which webhooks came, without their bodies';

CREATE TABLE provider_facts (
    owner_id  uuid NOT NULL,
    id        uuid NOT NULL,
    provider  text NOT NULL,
    kind      text NOT NULL,
    object_id text NOT NULL,
    livemode  boolean NOT NULL,
    as_of     timestamptz NOT NULL,
    fact      jsonb NOT NULL,
    version   bigint NOT NULL,
    PRIMARY KEY (owner_id, id)
);
CREATE INDEX provider_facts_by_object ON provider_facts (object_id, kind);
COMMENT ON TABLE provider_facts IS 'distribution key: owner_id; every fact that a payment provider reported about a person''s money, once each';
