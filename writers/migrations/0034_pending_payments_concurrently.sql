DROP INDEX CONCURRENTLY IF EXISTS tips_pending;
CREATE INDEX CONCURRENTLY tips_pending ON tips (requested_at)
    WHERE status = 'pending' AND state #>> '{asked,paymentMethodId}' <> '';
DROP INDEX CONCURRENTLY IF EXISTS post_purchases_pending;
CREATE INDEX CONCURRENTLY post_purchases_pending ON post_purchases (requested_at)
    WHERE status = 'pending' AND state #>> '{asked,paymentMethodId}' <> '';
