ALTER TABLE posts ADD COLUMN also_removed_by uuid[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN posts.also_removed_by IS 'decisions after removed_by: the post comes back when all are reversed';
