CREATE INDEX messages_by_id ON messages (conversation_id, id);
COMMENT ON COLUMN messages.id IS 'derived from conversation, sender and client_message_id: a repeated request is found by it';
