CREATE TABLE payouts (
    creator_id         uuid NOT NULL,
    id                 uuid NOT NULL,
    amount_minor       bigint NOT NULL,
    currency           char(3) NOT NULL,
    livemode           boolean NOT NULL,
    status             text NOT NULL,
    provider_payout_id text,
    requested_at       timestamptz NOT NULL,
    due                timestamptz,
    state              jsonb NOT NULL,
    version            bigint NOT NULL,
    PRIMARY KEY (creator_id, id)
);
CREATE INDEX payouts_due ON payouts (due) WHERE due IS NOT NULL;
COMMENT ON TABLE payouts IS 'distribution key: creator_id; payouts asked for, whatever became of them; due: since when the provider has not answered';
