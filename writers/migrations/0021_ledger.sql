CREATE INDEX provider_facts_by_payment ON provider_facts (owner_id, (coalesce(fact ->> 'paymentId', object_id)));

CREATE TABLE transactions (
    owner_id     uuid NOT NULL,
    id           uuid NOT NULL,
    payee_id     uuid NOT NULL,
    kind         text NOT NULL,
    provider     text NOT NULL,
    livemode     boolean NOT NULL,
    payment_id   text NOT NULL,
    amount_minor bigint NOT NULL,
    currency     char(3) NOT NULL,
    occurred_at  timestamptz NOT NULL,
    version      bigint NOT NULL,
    PRIMARY KEY (owner_id, id)
);
CREATE INDEX transactions_of_owner ON transactions (owner_id, occurred_at);
CREATE INDEX transactions_of_payee ON transactions (payee_id, occurred_at);
COMMENT ON TABLE transactions IS 'distribution key: owner_id (payer; of payouts the creator); money that moved, once each';

CREATE TABLE ledger_entries (
    owner_id       uuid NOT NULL,
    transaction_id uuid NOT NULL,
    account        text NOT NULL,
    party_id       uuid,
    amount_minor   bigint NOT NULL,
    currency       char(3) NOT NULL,
    livemode       boolean NOT NULL,
    available_at   timestamptz,
    PRIMARY KEY (owner_id, transaction_id, account)
);
CREATE INDEX ledger_entries_of_party ON ledger_entries (party_id, account);
COMMENT ON TABLE ledger_entries IS 'distribution key: owner_id; both sides of each transaction, which sum to zero';

CREATE FUNCTION refuse_unbalanced() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    entry ledger_entries;
BEGIN
    IF TG_OP = 'DELETE' THEN entry := OLD; ELSE entry := NEW; END IF;
    IF EXISTS (
        SELECT FROM ledger_entries WHERE owner_id = entry.owner_id AND transaction_id = entry.transaction_id
        GROUP BY currency, livemode HAVING sum(amount_minor) <> 0
    ) THEN
        RAISE EXCEPTION 'transaction % does not sum to zero', entry.transaction_id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ledger_entries_balance AFTER INSERT OR UPDATE OR DELETE ON ledger_entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_unbalanced();
