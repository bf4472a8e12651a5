ALTER TABLE posts ADD COLUMN recipient_id uuid;
ALTER TABLE messages ADD COLUMN post_id uuid;
COMMENT ON COLUMN posts.recipient_id IS 'who alone finds the post, in a message that names it';
COMMENT ON COLUMN messages.post_id IS 'a pay-per-view post that goes with the message';
