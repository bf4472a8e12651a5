DROP INDEX CONCURRENTLY IF EXISTS post_purchases_of_anybody;
CREATE INDEX CONCURRENTLY post_purchases_of_anybody ON post_purchases (post_id);
