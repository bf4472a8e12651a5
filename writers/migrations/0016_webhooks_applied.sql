ALTER TABLE webhook_events ADD COLUMN applied_at timestamptz;
COMMENT ON COLUMN webhook_events.applied_at IS 'when what the webhook proves was appended to the owners'' topics; null: not yet';
CREATE INDEX webhook_events_by_event ON webhook_events (provider, provider_event_id);
