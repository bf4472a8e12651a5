ALTER TABLE posts ADD COLUMN removed_by uuid;
ALTER TABLE posts ADD COLUMN removed_from text[];
COMMENT ON COLUMN posts.removed_from IS 'state and review before the decision removed_by took the post away: what its reversal brings back';
