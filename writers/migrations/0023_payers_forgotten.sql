UPDATE tips SET state = state #- '{asked,message}' WHERE state #> '{asked,message}' IS NOT NULL;

ALTER TABLE erasures ADD COLUMN payer_forgotten_at timestamptz;
CREATE INDEX erasures_of_payers ON erasures (erased_at) WHERE payer_forgotten_at IS NULL;
COMMENT ON COLUMN erasures.payer_forgotten_at IS 'when the payment processor had let go of the person as a payer, or never knew them';
