ALTER TABLE comments ADD COLUMN decision_id uuid;
COMMENT ON COLUMN comments.decision_id IS 'the decision that deleted it and whose reversal brings it back; null: nobody''s, or nobody did';
