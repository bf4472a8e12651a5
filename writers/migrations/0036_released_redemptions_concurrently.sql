DROP INDEX CONCURRENTLY IF EXISTS promo_redemptions_freed;
CREATE INDEX CONCURRENTLY promo_redemptions_freed ON promo_redemptions (creator_id, promo_id, version)
    WHERE promo_id IS NOT NULL AND released;
