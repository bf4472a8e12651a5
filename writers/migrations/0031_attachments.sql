ALTER TABLE messages ADD COLUMN attachments uuid[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN messages.attachments IS 'media of the sender, in their order';
