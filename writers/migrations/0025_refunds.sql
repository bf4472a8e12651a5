ALTER TABLE tips ADD COLUMN refund_due timestamptz;
ALTER TABLE post_purchases ADD COLUMN refund_due timestamptz;
CREATE INDEX tips_refund_due ON tips (refund_due) WHERE refund_due IS NOT NULL;
CREATE INDEX post_purchases_refund_due ON post_purchases (refund_due) WHERE refund_due IS NOT NULL;
COMMENT ON COLUMN tips.refund_due IS 'since when a refund was asked for that the provider has not answered';
COMMENT ON COLUMN post_purchases.refund_due IS 'since when a refund was asked for that the provider has not answered';
