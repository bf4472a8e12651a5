ALTER TABLE device_tokens ADD COLUMN family_id uuid;
CREATE INDEX device_tokens_by_session ON device_tokens (family_id) WHERE removed_at IS NULL;
COMMENT ON COLUMN device_tokens.family_id IS 'the session that registered it; when that ends, so does the registration';
