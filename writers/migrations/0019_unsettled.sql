ALTER TABLE subscriptions ADD COLUMN unsettled boolean NOT NULL DEFAULT false;
CREATE INDEX subscriptions_unsettled ON subscriptions (requested_at) WHERE unsettled;
COMMENT ON COLUMN subscriptions.unsettled IS 'the checkout is open, or what was asked of renewal is not what the provider says';
CREATE INDEX promo_redemptions_held ON promo_redemptions (creator_id, promo_id, version) WHERE promo_id IS NOT NULL AND NOT released;
