CREATE TABLE identities (
    identity_hash uuid PRIMARY KEY,
    user_id       uuid NOT NULL,
    email_hash    uuid NOT NULL,
    version       bigint NOT NULL,
    issuer        text NOT NULL,
    subject       text NOT NULL,
    nonces        jsonb NOT NULL
);
CREATE INDEX identities_by_user ON identities (user_id);
COMMENT ON TABLE identities IS 'distribution key: identity_hash; the row is the claim on a provider''s identity, the first in the log holds it';
COMMENT ON COLUMN identities.nonces IS 'hashes of the nonces that were used lately, with the time until which they count';
